"""Wrong answers that students really give, and the points that each must keep.

One module an assignment: ``ASSIGNMENT`` names the master, ``WRONG`` lists the answers.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Wrong:
    """A wrong answer to one question.

    Attributes:
        question: name of the question.
        mistake: what the student did, in a few words.
        points: what the question must still earn, no more and no less.
        answer: the whole answer as source, or what to replace in the solution: each
            key must occur in it.
        seed: the variant that the answer is for.
    """

    question: str
    mistake: str
    points: float
    answer: str | dict[str, str]
    seed: int = 0
