"""VQA accuracy: an answer counts by how many of the annotators gave it.

The measure and the way answers are brought into one form are those of the official evaluation
(Antol et al., "VQA: Visual Question Answering", ICCV 2015, and its evaluation tools for version 2).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache

#: An answer is right in full if so many annotators gave it.
AGREEING = 3
_ARTICLES = frozenset({"a", "an", "the"})
_NUMBERS = {
    **{"none": "0", "zero": "0", "one": "1", "two": "2", "three": "3", "four": "4", "five": "5"},
    **{"six": "6", "seven": "7", "eight": "8", "nine": "9", "ten": "10"},
}
_PUNCTUATION = r';/[]"{}()=+\_-><@`,?!'
_COMMA_IN_NUMBER = re.compile(r"\d,\d")
_FULL_STOP = re.compile(r"\.(?!\d)")
#: So many full stops go at most: the official code hands `re.UNICODE`, 32, over as the count.
_FULL_STOPS = 32
#: Words that are often written without one of their apostrophes, which is put back.
_CONTRACTIONS = """
    ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've
    hasn't haven't he'd he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am
    mightn't mightn't've might've mustn't must've needn't not've o'clock oughtn't 'ow's'at
    shan't she'd've should've shouldn't shouldn't've somebody'd've somebody'll somebody's
    someone'd someone'd've someone'll someone's something'd something'd've something'll that's
    there'd there'd've there're there's they'd they'd've they'll they're they've 'twas wasn't
    we'd've we've weren't what'll what're what's what've when's where'd where's where've who'd
    who'd've who'll who's who've why'll why're why's won't would've wouldn't wouldn't've y'all
    y'all'll y'all'd've you'd you'd've you'll you're you've
"""


def _one_apostrophe_less(word: str) -> Iterator[str]:
    for place in (match.start() for match in re.finditer("'", word)):
        yield word[:place] + word[place + 1 :]


_RESTORED = {less: word for word in _CONTRACTIONS.split() for less in _one_apostrophe_less(word)}
_RESTORED["somebody'd"] = "somebodyd"  # the official table has it this way round


@lru_cache(maxsize=2**18)  # the same few answers come a million times
def normalised(answer: str) -> str:
    """An answer as the official evaluation compares it: lower case, digits, no articles."""
    plain = text = _on_one_line(answer)
    number = _COMMA_IN_NUMBER.search(text) is not None
    for mark in _PUNCTUATION:
        apart = f"{mark} " in text or f" {mark}" in text
        plain = plain.replace(mark, "" if apart or number else " ")
    words = _FULL_STOP.sub("", plain, count=_FULL_STOPS).lower().split()
    figures = (_NUMBERS.get(word, word) for word in words)
    return " ".join(_RESTORED.get(word, word) for word in figures if word not in _ARTICLES)


def _on_one_line(answer: str) -> str:
    return answer.replace("\n", " ").replace("\t", " ").strip()


def soft_targets(answers: Sequence[str]) -> dict[str, float]:
    """Each answer in its normal form, weighed min(1, n / 3) where n annotators gave it."""
    counts = Counter(normalised(answer) for answer in answers)
    return {answer: min(1.0, count / AGREEING) for answer, count in counts.items()}


def answer_accuracy(answer: str, answers: Sequence[str]) -> float:
    """VQA accuracy of one predicted answer, 0 to 1.

    It is min(1, n / 3) where n of the annotators agree, averaged over leaving out each of them.
    Answers that are all alike but for blanks around them are compared as they are, as the official
    evaluation does.
    """
    if not answers:
        return 0.0
    lines = [_on_one_line(each) for each in answers]
    agreed = len(set(lines)) == 1
    annotated = lines if agreed else [normalised(line) for line in lines]
    same = annotated.count(_on_one_line(answer) if agreed else normalised(answer))
    with_all, with_one_less = min(1.0, same / AGREEING), min(1.0, (same - 1) / AGREEING)
    return (same * with_one_less + (len(annotated) - same) * with_all) / len(annotated)


def vqa_accuracy(y_pred: Mapping[str, str], answers: Mapping[str, Sequence[str]]) -> float:
    """The mean over all questions that have answers; one without a prediction counts as wrong.

    Args:
        y_pred: Guid to predicted answer.
        answers: Guid to the annotators' answers, as `Dataset.answers` holds it.
    """
    scores = (answer_accuracy(y_pred[q], own) for q, own in answers.items() if q in y_pred)
    return sum(scores) / len(answers) if answers else 0.0
