"""The split files of ADDE-M."""
