r"""Units and currencies: converted where both answers have one.

Each case is labelled by hand: (reference answer, answer)."""

from __future__ import annotations

import pytest

from trainer.tasks.answers.judge import judge

RIGHT = [
    (r"5\text{ kg}", r"5000\text{ g}"),
    ("5 kg", "5kg"),
    (r"3\text{ m}", "300 cm"),
    (r"3\,\mathrm{m}", "3"),
    ("3", r"3\,\mathrm{m}"),
    ("1 hour", "60 minutes"),
    (r"90\text{ min}", r"1.5\text{ hours}"),
    (r"9.8\text{ m/s}^2", r"9.8\ \mathrm{m \cdot s^{-2}}"),
    ("9.8 m/s^2", "9.8"),
    (r"72\text{ km/h}", r"20\text{ m/s}"),
    (r"1\text{ mile}", r"5280\text{ feet}"),
    (r"144\text{ in}^2", r"1\text{ ft}^2"),
    (r"144\text{ square inches}", r"1\text{ square foot}"),
    (r"2\text{ L}", r"2000\text{ mL}"),
    (r"1000\text{ cm}^3", r"1\text{ liter}"),
    (r"\$3.50", "3.5"),
    (r"\$3.50", r"\$3.5"),
    ("3.50", r"\$3.50"),
    (r"\$1{,}000", r"1000\text{ dollars}"),
    ("€20", r"20\text{ euros}"),
    (r"180^\circ", r"\pi\text{ radians}"),
    (r"\frac{\pi}{2}", r"90^\circ"),
    ("90", r"90^{\circ}"),
    ("90°", r"90\text{ degrees}"),
    (r"0\text{ °C}", r"32\text{ °F}"),
    (r"12\text{ eggs}", "12"),
    ("12", r"12\text{ eggs}"),
    ("60 mph", r"60\text{ miles per hour}"),
    (r"4\text{ cubic meters}", r"4\text{ m}^3"),
    ("4 cm^2", r"4\,cm^2"),
    (r"2\text{ boxes}", "2"),
    ("1 J", r"1\text{ N}\cdot\text{m}"),
    ("5%", r"5\%"),
    ("0.05", r"5\%"),
    (r"5\%", "0.05"),
    (r"5\%", "5"),
    (r"12.5\%", r"\frac18"),
    (r"33\frac13\%", r"\frac13"),
]
WRONG = [
    ("5 kg", "5 g"),
    ("5 kg", "5 m"),
    ("5 m", "5 s"),
    ("3 m", "3 cm"),
    ("3 ft", "3 in"),
    ("9.8 m/s^2", "9.8 m/s"),
    ("9.8 m/s", "9.8 km/s"),
    ("1 hour", "1 minute"),
    (r"\$5", r"5\text{ cents}"),
    (r"\$5", "€5"),
    (r"90^\circ", r"90\text{ radians}"),
    (r"\pi", "180"),
    (r"30\text{ °C}", r"30\text{ °F}"),
    ("4 m^2", "4 m^3"),
    (r"4\text{ square meters}", r"4\text{ meters}"),
    ("60 mph", r"60\text{ km/h}"),
    (r"5\%", "0.5"),
    ("5", r"0.05\%"),
    ("0.5", "50"),
    (r"50\%", "0.05"),
]


@pytest.mark.parametrize(("gold", "answer"), RIGHT)
def test_a_right_answer_is_rewarded(gold: str, answer: str) -> None:
    assert judge(gold, f"\\boxed{{{answer}}}") == "correct"


@pytest.mark.parametrize(("gold", "answer"), WRONG)
def test_a_wrong_answer_is_not(gold: str, answer: str) -> None:
    assert judge(gold, f"\\boxed{{{answer}}}") == "wrong"
