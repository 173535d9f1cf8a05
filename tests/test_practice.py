"""The practice tasks: programs that know their task, for their own texts and for any other."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import time
from datetime import date
from fractions import Fraction
from random import Random

import pytest
from babel import Locale
from babel.dates import format_date
from hypothesis import example, given, settings
from hypothesis import strategies as st

from understudy.errors import UsageError
from understudy.practice import TASKS, cells, dates, duration_reader, durations, load, support
from understudy.practice.date_reader import LOCALES, fold, months
from understudy.task import Cell, Impossible, Plan, Spec

MODULES = {"dates": dates, "durations": durations, "support": support}
EACH = pytest.mark.parametrize("task", MODULES.values(), ids=MODULES)


def drawn(plan: Plan, how_many: int, seed: int = 0) -> list[Cell]:
    rng = Random(seed)
    return [cells.draw(plan, rng) for _ in range(how_many)]


def every_pair(plan: Plan) -> list[Cell]:
    """Cells in which every allowed pair of values of two attributes stands at least once."""
    rng = Random(1)
    found = []
    for first in plan.attributes:
        for second in plan.attributes:
            if first.name < second.name:
                for one in first.values:
                    for other in second.values:
                        cell = {first.name: one.value, second.name: other.value}
                        if plan.allows(cell):
                            found.append(cells.draw(plan, rng, cell))
    return found


@EACH
def test_answers_what_it_wrote(task):
    """Reading gives back the truth that was written, over all pairs of values and many draws."""
    plan, spec, rng = task.plan(), task.spec(), Random(2)
    for cell in [*every_pair(plan), *drawn(plan, 3000)]:
        assert plan.allows(cell)
        text, truth = task.write(cell, rng)
        assert task.answer(text) == truth, (cell, text)
        assert spec.violation(truth) is None


@EACH
@given(text=st.text(max_size=300))
@example(text="")
@example(text="\ud800 5 March 2024")
@example(text="9" * 5000 + " hours 99999")
@example(text="1/0 hours, 0/0/0000, 31.02.2024")
def test_any_text_gets_an_answer_that_keeps_to_the_spec(task, text):
    """No text at all, however odd, breaks the program or its spec."""
    assert SPECS[task].violation(task.answer(text)) is None


SPECS = {task: task.spec() for task in MODULES.values()}

SCRAPS = """1 2 12 31 2024 05 / - . : , # and a half an hour days of march mars mart may 5th 年 月
日 十 not refund order 12345 kettle money back cancel quarter three hundred P T1H 1.5 ½ 30m pm"""


@EACH
@given(text=st.lists(st.sampled_from(SCRAPS.split()), max_size=30), gap=st.sampled_from(["", " "]))
@settings(max_examples=200)
def test_any_mixture_of_the_tasks_own_words_keeps_to_the_spec(task, text, gap):
    """Text that is almost of the task is harder than noise."""
    assert SPECS[task].violation(task.answer(gap.join(text))) is None


@EACH
def test_long_text_is_read_in_time_that_grows_with_it(task):
    """Nothing in a long message makes the patterns look at it again and again."""
    for piece in (
        "1 ",
        "1/",
        "a ",
        "march ",
        "5 march ",
        "half ",
        "not a ",
        "twenty ",
        "1:",
        "一",
        "give ",
    ):
        text = piece * (40_000 // len(piece))
        began = time.process_time()
        task.answer(text)
        assert time.process_time() - began < 2, piece


@EACH
def test_inputs_repeat_with_the_seed_and_differ_without(task):
    """A cell and a seed settle the inputs; another seed gives others."""
    for cell in drawn(task.plan(), 20):
        first = task.inputs(cell, 5, seed=7)
        assert len(first) == 5
        assert first == task.inputs(cell, 5, seed=7)
        assert first != task.inputs(cell, 5, seed=8)


@EACH
@pytest.mark.parametrize("cell", [{}, {"topic": "taxes"}, {"form": "no such form", "order": "x"}])
def test_inputs_for_a_cell_of_another_plan(task, cell):
    """A changed plan still gives inputs: what the task does not know is drawn from its own plan."""
    texts = task.inputs(cell, 30, seed=1)
    assert len(set(texts)) > 25
    outside = task.spec().out_of_scope
    assert not any(task.answer(text) == outside for text in texts)


@EACH
def test_two_thousand_inputs_are_many_different_examples(task):
    """Few inputs are equal to the letter, and the answers are many hundreds."""
    texts = [task.inputs(cell, 1, seed)[0] for seed, cell in enumerate(drawn(task.plan(), 2000))]
    assert len(set(texts)) > 1900
    assert len({task.answer(text) for text in texts}) > 1200
    assert max(map(len, texts)) <= 200


@EACH
def test_spec_and_plan_survive_their_own_json(task):
    """What the practice server sends is what the product reads."""
    assert Spec.model_validate_json(task.spec().model_dump_json()) == task.spec()
    assert Plan.model_validate_json(task.plan().model_dump_json()) == task.plan()


@EACH
def test_the_answer_for_nothing_is_the_one_in_the_spec(task):
    """A text that is not of the task gets the answer that out_of_scope names."""
    for text in ("", "Good morning to you", "¿?", "the moon"):
        assert task.answer(text) == task.spec().out_of_scope


@EACH
def test_the_system_message_tells_every_rule(task):
    """Another model, run with the system message alone, is told all that settles the answer."""
    spec = task.spec()
    for said in (*spec.rules, spec.out_of_scope, *(field.name for field in spec.fields)):
        assert said in spec.system_message


def test_answers_take_well_under_a_millisecond():
    """Thousands of calls a second leave room for the wire."""
    for task in MODULES.values():
        texts = task.inputs({}, 1000, seed=3)
        began = time.process_time()
        for text in texts:
            task.answer(text)
        assert (time.process_time() - began) / len(texts) < 0.0005, task.__name__


# cells


def test_a_drawn_cell_keeps_what_was_asked_and_is_allowed():
    """Only what is left open is drawn, and no impossible pair comes out."""
    plan = dates.plan()
    for seed in range(300):
        cell = cells.draw(plan, Random(seed), {"form": "English ordinal"})
        assert cell["form"] == "English ordinal"
        assert cell["language"] == "English"


def test_an_impossible_cell_that_was_asked_for_comes_back():
    """Two values that cannot meet, both asked for, do not hang the drawing."""
    plan = Plan(
        attributes=(cells.attribute("a", {"x": 1}), cells.attribute("b", {"y": 1})),
        impossible=(Impossible(attribute="a", value="x", other_attribute="b", other_value="y"),),
    )
    assert cells.draw(plan, Random(0), {"a": "x"}) == {"a": "x", "b": "y"}


def test_unknown_task_is_refused_with_the_names_of_all():
    """The error says what there is."""
    with pytest.raises(UsageError, match=r"chess.*dates, durations, support"):
        load("chess")
    assert [load(name) for name in TASKS] == [
        importlib.import_module(path) for path in TASKS.values()
    ]


def test_dates_without_babel_say_what_to_install():
    """The missing package is named in one line, and the other tasks do not need it."""
    script = (
        "import sys; sys.modules['babel'] = None\n"
        "from understudy.errors import SetupError\n"
        "from understudy.practice import load\n"
        "load('durations'); load('support')\n"
        "try: load('dates')\n"
        "except SetupError as error: print(error)"
    )
    said = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert 'The dates practice task needs Babel. pip install "understudy[practice]"' in said.stdout


# dates


@pytest.mark.parametrize(
    ("text", "iso"),
    [
        ("05.03.2024", "2024-03-05"),
        ("3/4/2024", "2024-04-03"),
        ("03/25/2024", "2024-03-25"),
        ("2024-3-5", "2024-03-05"),
        ("20240305", "2024-03-05"),
        ("5. 3. 2024", "2024-03-05"),
        ("05–03–2024", "2024-03-05"),
        ("05/03/49", "2049-03-05"),
        ("05/03/50", "1950-03-05"),
        ("24-03-05", "2005-03-24"),
        ("Mar. 5, '24", "2024-03-05"),
        ("March 5th, 2024", "2024-03-05"),
        ("the 1st of May 1999", "1999-05-01"),
        ("05MAR2024", "2024-03-05"),
        ("5March2024", "2024-03-05"),
        ("2024 Mart 5", "2024-03-05"),
        ("1er août 2024", "2024-08-01"),
        ("1º de março de 2024", "2024-03-01"),
        ("5-го марта 2024 года", "2024-03-05"),
        ("25 KASIM 2024", "2024-11-25"),
        ("25 kasım 2024", "2024-11-25"),
        ("NİSAN 3 2001", "2001-04-03"),
        ("mar. 5 juil. 2024", "2024-07-05"),
        ("5 marzec 2024", "2024-03-05"),
        ("７．３．２０２４", "2024-03-07"),
        ("2024年３月５日", "2024-03-05"),
        ("二〇二四年十二月三十一日", "2024-12-31"),
        ("2024年3月5日(火)", "2024-03-05"),
        ("We met on 5 March 2024 at ten", "2024-03-05"),
        ("2024-03-05T10:00:00Z", "2024-03-05"),
        ("31.04.2024, no: 1.5.2024", "2024-05-01"),
        ("first 6 May 2001, then 2002-01-01", "2001-05-06"),
        ("29.02.2023", "none"),
        ("5 March", "none"),
        ("March 2024", "none"),
        ("March 5, 10:30", "none"),
        ("1.2.3.2024", "none"),
        ("0244-3-51", "none"),
        ("123456789", "none"),
        ("5 marching 2024", "none"),
    ],
)
def test_dates_in_texts_it_did_not_write(text, iso):
    """The written rules hold for any text."""
    assert dates.answer(text) == iso


def test_no_month_name_means_two_months():
    """A folded name has one number over all languages, so the language need not be known."""
    seen: dict[str, int] = {}
    for code in set(LOCALES.values()) - {"zh"}:
        for width in ("wide", "abbreviated"):
            for number, name in Locale.parse(code).months["format"][width].items():
                key = fold(name).rstrip(".")
                assert seen.setdefault(key, number) == number, (code, name)
                assert months()[key] == number


@pytest.mark.parametrize("code", LOCALES.values())
def test_every_day_of_a_leap_year_in_every_language(code):
    """CLDR's full, long and medium way of writing is read back for each day."""
    for ordinal in range(date(2024, 1, 1).toordinal(), date(2025, 1, 1).toordinal()):
        day = date.fromordinal(ordinal)
        for form in ("full", "long", "medium"):
            written = format_date(day, form, locale=code)
            assert dates.answer(written) == day.isoformat(), written


@given(st.dates(date(1950, 1, 1), date(2049, 12, 31)), st.sampled_from("./-"))
def test_figures_of_any_day_in_range(day, sign):
    """Day first with four or two figures for the year, and year first, name the same day."""
    for pattern in (
        "{0.day}s{0.month:02}s{0.year}",
        "{0.day:02}s{0.month}s{1:02}",
        "{0.year}s{0.month}s{0.day}",
    ):
        written = pattern.replace("s", sign).format(day, day.year % 100)
        assert dates.answer(f"on {written}.") == day.isoformat()


def test_months_do_not_depend_on_what_babel_read_before():
    """Babel hands one language's names to another after some reads; the table stays right."""
    script = (
        "from babel import Locale\n"
        "for code in ('zh', 'ja', 'ko'):\n"
        "    for kind in ('format', 'stand-alone'):\n"
        "        for width in ('wide', 'abbreviated'):\n"
        "            list(Locale.parse(code).months[kind][width].values())\n"
        "from understudy.practice.date_reader import months\n"
        "import json; print(json.dumps(months()))"
    )
    said = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert json.loads(said.stdout) == months()


# durations


@pytest.mark.parametrize(
    ("text", "iso"),
    [
        ("an hour and a half", "PT1H30M"),
        ("hour and a half", "PT1H30M"),
        ("one-and-a-half hours", "PT1H30M"),
        ("2h30", "PT2H30M"),
        ("2h 30m", "PT2H30M"),
        ("2½ hrs", "PT2H30M"),
        ("2 1/2 hours", "PT2H30M"),
        ("2,5 h", "PT2H30M"),
        ("three days and 4 hours", "P3DT4H"),
        ("ninety minutes", "PT90M"),
        ("a hundred and twenty minutes", "PT120M"),
        ("1:30:00", "PT1H30M"),
        ("1:30", "PT1H30M"),
        ("2 days 03:04:05", "P2DT3H4M5S"),
        ("half an hour", "PT30M"),
        ("three quarters of an hour", "PT45M"),
        ("a third of an hour", "PT20M"),
        ("two hours and three quarters", "PT2H45M"),
        ("an hour and a half minute", "PT1H30S"),
        ("a fortnight", "P2W"),
        ("a week and a half", "P10DT12H"),
        ("1 week, 3 days", "P10D"),
        ("a month and a half", "P1M15D"),
        ("a year and a quarter", "P1Y3M"),
        ("one hundred and three quarters minutes", "PT100M45S"),
        ("one hundred and three minutes", "PT103M"),
        ("1,500 hours", "PT1500H"),
        ("1.25 seconds", "PT1.25S"),
        ("a couple of hours", "PT2H"),
        ("half a dozen weeks", "P6W"),
        ("P1DT2H30M", "P1DT2H30M"),
        ("0 minutes", "PT0S"),
        ("the 30-minute call", "PT30M"),
        ("from 2 hours to 3 hours", "PT2H"),
        ("10 am", "none"),
        ("at 10:30 pm", "none"),
        ("a few hours", "none"),
        ("miles per hour", "none"),
    ],
)
def test_durations_in_texts_it_did_not_write(text, iso):
    """The written rules hold for any text."""
    assert durations.answer(text) == iso


@given(st.dictionaries(st.sampled_from("YMWDhms"), st.integers(0, 10**6)))
def test_an_iso_duration_answers_itself(amounts):
    """Whatever can come out can also come in, and comes out the same."""
    written = duration_reader.iso({sign: Fraction(amount) for sign, amount in amounts.items()})
    assert SPECS[durations].violation(written) is None
    assert durations.answer(written) == written


# support


@pytest.mark.parametrize(
    ("text", "order", "product", "intent"),
    [
        ("I want my broken kettle replaced (order 12-345)", "12345", "kettle", "exchange"),
        ("no refund please, send another one. #12345", "12345", None, "exchange"),
        ("I do not want to cancel, where is my rucksack?", None, "backpack", "delivery"),
        ("Is my reading-lamp on its way? Ref US48213", "48213", "desk lamp", "delivery"),
        ("I have not received the invoice for 48 213", "48213", None, "invoice"),
        ("My headphones won't turn on", None, "headset", "damaged"),
        ("swap my bean grinder for a kettle", None, "coffee grinder", "exchange"),
        ("CANCEL MY ORDER 55555 AND GIVE ME MY MONEY BACK", "55555", None, "cancel"),
        ("Call 030 12345 67, the gym mat is lovely", None, "yoga mat", "other"),
        ("I paid 12,345 for it and order 1234567 is late", None, None, "delivery"),
    ],
)
def test_support_in_messages_it_did_not_write(text, order, product, intent):
    """The written rules hold for any message."""
    assert json.loads(support.answer(text)) == {
        "order": order,
        "product": product,
        "intent": intent,
    }


@given(
    st.integers(0, 99_999),
    st.sampled_from(["{}{}", "{}-{}", "{} {}", "#{}{}", "No.{}{},", "({}{})"]),
)
def test_every_spelling_of_an_order_number_gives_its_five_digits(number, spelling):
    """The order number is copied, leading zeros and all."""
    digits = f"{number:05}"
    written = spelling.format(digits[:2], digits[2:])
    assert json.loads(support.answer(f"about order {written}"))["order"] == digits


def test_support_answers_are_written_one_way():
    """Keys in the order of the spec, default separators: equal content is equal text."""
    names = [field.name for field in support.spec().fields]
    for text in support.inputs({}, 200, seed=5):
        answer = support.answer(text)
        assert answer == json.dumps(json.loads(answer), ensure_ascii=False)
        assert list(json.loads(answer)) == names
