"""Requests in words, with the text model that knows synonyms where it is installed."""

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.errors import ConfigError
from gradrev_jax.serving.language.guesses import Similar
from gradrev_jax.serving.language.word_vectors import load_word_vectors
from gradrev_jax.serving.language.words import Request, parse_request


class Words:
    """Finds changes in words; synonyms are known once ``load`` has found the text model.

    Args:
      schema: the attributes and values that the words may name.

    Example:
      >>> words = Words(AttributeSchema(("color",), (("blue", "red"),)))
      >>> words("but red").changes
      (Change(attribute='color', to='red', strength=1.0, unwanted=()),)
    """

    def __init__(self, schema: AttributeSchema) -> None:
        self._schema = schema
        self._similar: Similar | None = None

    def __call__(self, text: str) -> Request:
        """Returns the changes that a text asks for; see ``parse_request``."""
        return parse_request(text, self._schema, similar=self._similar)

    def load(self) -> bool:
        """Loads the text model; returns whether it is installed.

        Raises:
          WeightsError: its files are missing or damaged.
        """
        try:
            vectors = load_word_vectors()
        except ConfigError:  # not installed: without synonyms, then
            return False
        similar: Similar = vectors.similar
        parse_request("frobnicated", self._schema, similar=similar)  # computes those of the catalogue's names
        self._similar = similar
        return True
