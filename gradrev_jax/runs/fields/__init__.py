"""All that is known of each config field, in one place."""
