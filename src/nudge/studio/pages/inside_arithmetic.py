"""Inside: the arithmetic behind one number."""

import re

from nudge.look import Arithmetic, Term
from nudge.studio.components import box, diverging, shape_of, text
from nudge.studio.words import Words
from nudge.util.formatting import significant

_SIGNS = (
    (" * ", " × "),
    ("sqrt(", "√("),
    (" - ", " \N{MINUS SIGN} "),
    ("^3", "³"),
    (" pi)", " π)"),
    ("-b", "\N{MINUS SIGN}b"),
)
_DIGITS, _FACTOR_DIGITS = 4, 3
_WITH_NUMBERS = {  # by the operation; the fields are the labels of the terms
    "norm": "({x} − {mean}) / √({var} + {eps}) × {w} + {b}",
    "softmax": "e^({first} − {largest}) / {sum}",
    "gelu": "0.5 × {x} × (1 + tanh(√(2 / π) × ({x} + 0.044715 × {x}³)))",
}


def written(formula: str) -> str:
    """Return a formula with mathematical signs: × for *, √ for sqrt, Σ for a sum."""
    for plain, sign in _SIGNS:
        formula = formula.replace(plain, sign)
    return re.sub(r"sum over (\w+) of ", r"Σ_\1 ", formula)


def with_numbers(made: Arithmetic) -> str:
    """Return the formula with its numbers; "" for a long sum, whose terms are listed instead."""
    at = {term.label: _inner(term.value) for term in made.terms}
    if made.operation in _WITH_NUMBERS:
        return _WITH_NUMBERS[made.operation].format_map({**at, "first": _inner(made.terms[0].value)})
    if made.operation == "sum" and 1 < made.n_terms <= 2 and len(made.terms) == made.n_terms:
        return " + ".join(at.values())
    return ""


def show_arithmetic(made: Arithmetic, t: Words, token_labels: list[str], *, place: str) -> None:
    """Add the value, its place, its formula, and the terms of a sum as bars."""
    with box("made"):
        with box("hs between"):
            text(place, "s12 ink2 cut gr")
            text(made.name + shape_of(made.index), "mono s12 ink3 nw")
        with box("hs wrap", style="align-items:baseline;gap:4px 12px"):
            text(significant(made.value, _DIGITS), "value num", aria_live="polite")
            text(f"= {written(made.formula)}", "mono s12 ink2")
        if numbers := with_numbers(made):
            text(f"= {numbers}", "mono s12 numbers")
        if made.operation == "hidden":
            text(t("inside.hidden"), "s12 ink2")
        if made.operation == "sum" and made.n_terms > 1:
            _show_terms(made, t, token_labels)


def _show_terms(made: Arithmetic, t: Words, token_labels: list[str]) -> None:
    largest = max(*(abs(term.value) for term in made.terms), abs(made.rest)) or 1.0
    n_rest = made.n_terms - len(made.terms)
    with box("terms"):
        for term in made.terms:
            factors = " × ".join(_inner(factor, _FACTOR_DIGITS) for factor in term.factors)
            _show_term(term_label(term, t, token_labels), factors, term.value, largest)
        if n_rest:
            _show_term(t("inside.rest", n=n_rest), "", made.rest, largest, look="hatch")
        with box("term total"):
            text(t("inside.total"), "s12 m")
            text(significant(made.value, _DIGITS), "s12 num right b")


def _show_term(label: str, factors: str, value: float, largest: float, *, look: str = "") -> None:
    with box("term"):
        text(label, "s12 ink2 cut")
        text(factors, "mono s11 ink3 cut right")
        diverging(value, largest, (f"minus {look}", f"plus {look}"), places=("left", "side"))
        text(significant(value, _DIGITS), "s12 num right nw")


def term_label(term: Term, t: Words, token_labels: list[str]) -> str:
    """Return a term's name: `channel 12` in the user's language, a token by its text, a stage by its name."""
    kind = re.sub(r" \d+$", "", term.label)
    if kind == "token" and term.index is not None and term.index < len(token_labels):
        return f"{term.index} “{token_labels[term.index]}”"
    if t.has(f"inside.term.{kind}"):
        return t(f"inside.term.{kind}", n=str(term.index))
    return term.label


def _inner(value: float, digits: int = _DIGITS) -> str:
    """Return a number for the middle of a formula, in parentheses if it is below 0."""
    return f"({significant(value, digits)})" if value < 0 else significant(value, digits)
