"""Parameters of the scorers that compare the output with a text that was expected."""

from typing import Literal

from pydantic import Field, model_validator

from tracestone.schema.scorers.judges import API_BASE_PATTERN
from tracestone.schema.scorers.measures import Compared, Measured, Similarity


class ExactMatch(Compared):
    """True when the output is what was expected, but for what is ignored; `as_json` compares JSON documents."""

    ignore_case: bool = False
    ignore_whitespace: bool = False
    ignore_punctuation: bool = False
    as_json: bool = False


class FuzzyMatch(Similarity):
    """How alike the texts are by edits, from 0 to 1; the methods are RapidFuzz's."""

    method: Literal["ratio", "token_sort_ratio", "token_set_ratio", "jaro_winkler"] = "ratio"
    ignore_case: bool = True


class Contains(Compared):
    """True when every text of an expectation (or any one) occurs in the output."""

    expectation: str = Field("expected_facts", min_length=1, max_length=250)
    any_of: bool = False
    ignore_case: bool = True


class Bleu(Similarity):
    """BLEU of the sentence, sacrebleu's, from 0 to 1; `tokenize` `char` is for languages without spaces."""

    tokenize: Literal["13a", "intl", "char", "zh", "none"] = "13a"
    ignore_case: bool = False


class Rouge(Similarity):
    """ROUGE of words: shared unigrams, bigrams or the longest common subsequence, from 0 to 1."""

    variant: Literal["rouge1", "rouge2", "rougeL"] = "rougeL"
    measure: Literal["f", "precision", "recall"] = "f"


class Chrf(Similarity):
    """chrF, sacrebleu's, from 0 to 1; `word_order` 2 makes it chrF++."""

    word_order: int = Field(0, ge=0, le=4)
    ignore_case: bool = False


class EmbeddingSimilarity(Compared, Measured):
    """The cosine of the embeddings of the output and of what was expected, or of the input, from -1 to 1."""

    model: str = Field(min_length=1, max_length=200, pattern=r"^[\w.@+-]+([/:][\w.@+-]+)*$")
    beside: Literal["expected", "input"] = "expected"
    api_base: str | None = Field(None, pattern=API_BASE_PATTERN)
    timeout: float = Field(60, gt=0, le=600)
    retries: int = Field(3, ge=0, le=10)

    @model_validator(mode="after")
    def _beside_one(self) -> "EmbeddingSimilarity":
        if self.beside == "input" and self.expected is not None:
            raise ValueError("takes expected, or beside: input, not both")
        return self
