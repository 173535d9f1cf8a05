"""Cleaning: what is kept, what is set apart with which reason, and what is grouped with what."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.clean import Kept, clean, precedence
from understudy.clean import decide as decide_one
from understudy.dataset import check_leaks, freeze
from understudy.example import Example, Message
from understudy.similar import fold, jaccard
from understudy.task import OutputField, Spec

TEXT = Spec(title="t", input="i", output="o", kind="text", system_message="s")
LABEL = TEXT.model_copy(update={"kind": "label", "labels": ("late", "lost", "none")})
JSON = TEXT.model_copy(
    update={"kind": "json", "fields": (OutputField(name="wish", type="string"),)}
)
DATES = TEXT.model_copy(update={"same_answer_same_meaning": True})

LONG = "My parcel with order number 4711 has not arrived although it was promised for last Tuesday"
NEAR = LONG.replace("Tuesday", "Monday")
OTHER = "Which of the two coffee machines in your catalogue can be used with reusable capsules"


def example(text: str, answer: str, number: int | None = None, **more) -> Example:
    return Example(
        (Message("user", text),), answer, **{"id": number, "origin": "generated", **more}
    )


def decide(*examples: Example, spec: Spec | None = LABEL, decided=(), similarity=0.8):
    """Decided examples by id."""
    return {item.id: item for item in clean(examples, spec, similarity=similarity, decided=decided)}


def reasons(*examples: Example, **more) -> dict[int | None, str]:
    return {number: item.reason or item.state for number, item in decide(*examples, **more).items()}


# -- faults of one example ---------------------------------------------------------------------


@pytest.mark.parametrize("answer", ["", "  \n", "\u200b\ufeff"])
def test_an_answer_with_nothing_in_it_is_empty(answer):
    assert reasons(example(LONG, answer, 1), spec=TEXT) == {1: "empty"}
    assert reasons(example(answer, "late", 1)) == {1: "empty"}


def test_an_answer_that_breaks_the_spec_is_set_apart_with_the_violation_whoever_wrote_it():
    for origin in ("generated", "imported", "written"):
        found = reasons(example(LONG, "tomorrow", 1, origin=origin))
        assert found == {1: "breaks the spec: not one of the 3 labels"}
    assert reasons(example(LONG, "late", 1)) == {1: "accepted"}


def test_what_was_set_apart_before_is_left_as_it_is():
    cut = example(LONG, "la", 1, state="rejected", reason="cut off")
    assert decide(cut, example(LONG, "late", 2)) == {
        1: cut,
        2: decide(example(LONG, "late", 2))[2],
    }


def test_without_a_spec_answers_are_free_text():
    assert reasons(example(LONG, "anything at all", 1), spec=None) == {1: "accepted"}
    assert reasons(example(LONG, "I'm sorry, I can't help with that.", 1), spec=None) == {
        1: "refusal"
    }


# -- refusals ----------------------------------------------------------------------------------

REFUSALS = """
I'm sorry, but I can't assist with that.
I’m sorry, but I can’t help with that request.
I cannot fulfill this request.
Sorry, I can't do that.
As an AI language model, I cannot provide medical advice.
As an AI, I don't have personal opinions.
I'm just an AI, so I can't give you legal advice.
I am unable to assist with this request.
Unfortunately, I cannot provide that information.
I apologize, but I cannot comply with this request.
I must respectfully decline to answer this question.
I won't be able to help with that.
I'm not comfortable writing this kind of content.
That's not something I can help with.
It would be inappropriate for me to comment on this.
My guidelines prevent me from answering.
This request goes against my content guidelines.
I understand you are upset, but I can't help with that.
**I'm sorry, but I cannot create such content.**
I cannot in good conscience write this.
Es tut mir leid, aber ich kann dir dabei nicht helfen.
Leider kann ich Ihnen bei dieser Anfrage nicht weiterhelfen.
Ich kann diese Anfrage leider nicht beantworten.
Als KI-Sprachmodell kann ich keine medizinischen Ratschläge geben.
Ich bin leider nicht in der Lage, diese Frage zu beantworten.
Je suis désolé, mais je ne peux pas vous aider avec cela.
Désolée, je ne peux pas répondre à cette demande.
Je ne suis pas en mesure de fournir ces informations.
En tant qu'intelligence artificielle, je ne peux pas donner d'avis médical.
Il m’est impossible de répondre à votre question.
Lo siento, pero no puedo ayudarte con eso.
Lo siento, no puedo cumplir con esa solicitud.
Como modelo de lenguaje, no puedo dar consejos médicos.
Lamentablemente, no puedo proporcionar esa información.
Mi dispiace, ma non posso aiutarti con questo.
Non sono in grado di rispondere a questa domanda.
In quanto intelligenza artificiale, non posso fornire consigli medici.
Desculpe, mas não posso ajudar com isso.
Sinto muito, não posso atender a esse pedido.
Como uma IA, não tenho opiniões pessoais.
抱歉，我无法提供这方面的信息。
对不起，我不能帮助您完成这个请求。
很抱歉，这个问题我无法回答。
作为一个人工智能语言模型，我无法提供医疗建议。
非常抱歉，但我无法满足您的请求。
對不起，我無法協助您處理這個問題。
Извините, но я не могу помочь с этим.
К сожалению, я не могу выполнить этот запрос.
Как языковая модель, я не могу давать медицинские советы.
Простите, я не могу ответить на этот вопрос.
申し訳ありませんが、そのご要望にはお応えできません。
申し訳ございませんが、お手伝いできません。
すみませんが、そのような情報は提供できません。
AIとして、医療に関する助言はできません。
Het spijt me, maar ik kan je daar niet mee helpen.
Przepraszam, ale nie mogę w tym pomóc.
죄송하지만 도와드릴 수 없습니다.
Üzgünüm, bu konuda yardımcı olamam.
آسف، لا أستطيع مساعدتك في ذلك.
""".strip().splitlines()

ANSWERS = """
I'm sorry to hear that your parcel was late. We will send a new one.
I'm sorry, but we cannot refund orders after 30 days.
I can't wait to see you!
I can't help but notice how kind you are.
I cannot provide a refund without the order number.
Unfortunately, the flight is delayed by two hours.
As an AI company, we build tools for doctors.
As an AI assistant, I recommend a short walk.
I have to decline your kind invitation, as I am travelling.
No, the store is closed on Sundays.
The assistant said: I'm sorry, but I can't help with that.
I can't find the invoice you mention; could you send it again?
That is something I can recommend to everybody.
Es tut mir leid, dass Ihr Paket verspätet ist.
Leider ist der Artikel nicht auf Lager.
Als KI-Assistent kann ich Ihnen gern helfen.
Je suis désolé pour le retard de votre colis.
Je ne peux pas venir demain.
Comment puis-je vous aider ?
Lo siento, su pedido llegará mañana.
No puedo ir mañana.
Mi dispiace per il ritardo.
Non posso venire domani.
Desculpe o atraso na entrega.
Não posso ir amanhã.
抱歉让您久等了，您的订单已发货。
我不能吃辣。
很遗憾，我们的门店周日不营业。
Извините за задержку.
Я не могу прийти завтра.
К сожалению, товара нет в наличии.
申し訳ありませんが、ただいま在庫がございません。
明日は行けません。
Het spijt me dat uw pakket te laat is.
Niestety sklep jest zamknięty.
죄송합니다. 배송이 늦어졌습니다.
Maalesef mağaza kapalı.
2021-03-04
none
""".strip().splitlines()


@pytest.mark.parametrize("answer", REFUSALS)
def test_a_refusal_is_set_apart(answer):
    assert reasons(example(LONG, answer, 1), spec=TEXT) == {1: "refusal"}


@pytest.mark.parametrize("answer", ANSWERS)
def test_an_answer_that_only_sounds_like_a_refusal_is_kept(answer):
    assert reasons(example(LONG, answer, 1), spec=TEXT) == {1: "accepted"}


def test_a_refusal_that_the_spec_asks_for_is_an_answer():
    spec = TEXT.model_copy(update={"out_of_scope": "Say: Sorry, I can't help with that."})
    assert reasons(example(LONG, "Sorry, I can’t help with that.", 1), spec=spec) == {1: "accepted"}


def test_an_own_example_may_refuse():
    refusal = "I'm sorry, but I can't help with that."
    assert reasons(example(LONG, refusal, 1, origin="written"), spec=TEXT) == {1: "accepted"}


def test_a_refusal_inside_a_valid_json_answer_is_an_answer_and_instead_of_one_a_refusal():
    refusal = "I'm sorry, but I can't help with that."
    inside = f'{{"wish": "{refusal}"}}'
    found = reasons(example(LONG, inside, 1), example(OTHER, refusal, 2), spec=JSON)
    assert found == {1: "accepted", 2: "refusal"}


# -- repetition, contradiction, contrast -------------------------------------------------------


def test_the_same_input_with_the_same_answer_is_a_duplicate_that_names_its_twin():
    found = decide(example(LONG, "late", 1), example(f" {LONG.upper()}\n", "late", 2))
    assert (found[2].reason, found[2].twin) == ("duplicate of 1", 1)
    assert found[2].group == found[1].group


def test_a_near_input_with_the_same_answer_is_a_duplicate():
    assert reasons(example(LONG, "late", 1), example(NEAR, "late", 2))[2] == "duplicate of 1"
    assert reasons(example(LONG, "late", 1), example(OTHER, "late", 2))[2] == "accepted"


def test_a_near_input_with_another_answer_is_a_contrast_kept_in_the_same_group():
    found = decide(example(LONG, "late", 1), example(NEAR, "lost", 2))
    assert found[2].state == "accepted"
    assert found[2].group == found[1].group


def test_the_same_input_with_another_answer_is_a_contradiction():
    found = decide(example(LONG, "late", 1), example(LONG.lower(), "lost", 2))
    assert (found[2].reason, found[2].twin) == ("contradicts 1", 1)


def test_near_answers_are_the_same_only_in_free_text():
    answers = [
        f"We are sorry and will send another parcel to you {when}." for when in ("today", "now")
    ]
    pair = [
        example(text, answer, n)
        for n, (text, answer) in enumerate(zip((LONG, NEAR), answers, strict=True), 1)
    ]
    assert reasons(*pair, spec=TEXT)[2] == "duplicate of 1"
    labels = LABEL.model_copy(update={"labels": tuple(answers)})
    assert reasons(*pair, spec=labels)[2] == "accepted"


def test_json_answers_are_the_same_whatever_their_form():
    found = reasons(
        example(LONG, '{"wish": "refund"}', 1), example(NEAR, '{ "wish" : "Refund" }', 2), spec=JSON
    )
    assert found[2] == "duplicate of 1"


def test_the_whole_conversation_is_the_input():
    """A last "yes" means what was asked before it."""
    found = reasons(
        *(
            Example(
                (Message("user", text), Message("assistant", "Right?"), Message("user", "yes")),
                answer,
                id=n,
            )
            for n, (text, answer) in enumerate([(LONG, "late"), (OTHER, "none")])
        )
    )
    assert found == {0: "accepted", 1: "accepted"}


def test_under_another_system_message_the_same_input_is_another_question():
    pair = [
        Example((Message("system", text), Message("user", LONG)), answer, id=n)
        for n, (text, answer) in enumerate([("Is it late?", "late"), ("Is it lost?", "lost")])
    ]
    found = decide(*pair)
    assert {item.state for item in found.values()} == {"accepted"}
    assert found[0].group == found[1].group


def test_an_own_example_beats_a_generated_one_whatever_their_order():
    """Written by hand before imported before generated."""
    made = example(LONG, "lost", 1)
    imported = example(LONG, "late", 2, origin="imported")
    written = example(LONG, "none", 3, origin="written")
    found = decide(made, imported, written)
    assert [found[n].reason for n in (1, 2, 3)] == ["contradicts 3", "contradicts 3", ""]


def test_a_new_own_example_takes_the_place_and_the_group_of_a_generated_one():
    decided = decide(example(LONG, "lost", 1), example(OTHER, "none", 2))
    own = example(LONG, "late", 3, origin="written")
    repeat = example(OTHER, "none", 4, origin="imported")
    found = decide(own, repeat, decided=decided.values())
    assert (found[1].state, found[1].reason, found[1].twin) == ("rejected", "contradicts 3", 3)
    assert found[2].reason == "duplicate of 4"
    assert found[1].group == found[3].group == decided[1].group


def test_an_example_whose_place_was_taken_stands_in_the_way_of_none():
    decided = decide(example(LONG, "lost", 1))
    found = reasons(
        example(LONG, "late", 2, origin="written"),
        example(NEAR, "lost", 3),
        decided=decided.values(),
    )
    assert found == {1: "contradicts 2", 2: "accepted", 3: "accepted"}


def test_an_accepted_example_yields_to_no_later_one_of_its_kind():
    decided = decide(example(LONG, "late", 1))
    assert reasons(example(LONG, "lost", 2), decided=decided.values()) == {2: "contradicts 1"}


def test_examples_without_ids_are_compared_too():
    first, second = clean([example(LONG, "late"), example(LONG, "late")], LABEL, similarity=0.8)
    assert (first.state, second.reason, second.twin) == ("accepted", "duplicate of another", None)


def test_chinese_near_duplicates_are_found():
    text = "我上周在你们网店买的蓝色羽绒服到现在还没有收到，物流信息三天没有更新了，请帮我查一下"
    found = reasons(example(text, "late", 1), example(text.replace("三天", "四天"), "late", 2))
    assert found[2] == "duplicate of 1"


# -- groups ------------------------------------------------------------------------------------


def test_equal_answers_share_a_group_where_they_mean_the_same():
    found = decide(
        example("4 March 2021", "2021-03-04", 1),
        example("the fourth of March, 2021", "2021-03-04", 2),
        example("5 March 2021", "2021-03-05", 3),
        spec=DATES,
    )
    assert found[1].group == found[2].group != found[3].group


def test_what_contradicts_another_shares_its_group_so_that_accepting_it_by_hand_is_safe():
    found = decide(
        example("4 March 2021", "2021-03-04", 1),
        example("4 march 2021", "2021-04-03", 2),
        spec=DATES,
    )
    assert found[2].reason == "contradicts 1"
    assert found[2].group == found[1].group


def test_a_group_once_given_is_kept():
    assert decide(example(LONG, "late", 1, group="given before"))[1].group == "given before"


def test_an_answer_that_every_tenth_example_has_is_no_identity():
    """ "none" says nothing about the input, so it must not tie half of the data together."""
    given_ = [
        example(
            f"input {n * 7919} of its own {n}", "none" if n % 10 == 0 else f"answer {n // 2}", n
        )
        for n in range(1, 601)
    ]
    found = decide(*given_, spec=DATES)
    of_none = [item.group for item in found.values() if item.answer == "none"]
    assert len(set(of_none)) == len(of_none) - 19
    assert found[2].group == found[3].group


def test_an_answer_shared_by_few_of_many_stays_an_identity():
    """More than 20, but less than 2 %."""
    given_ = [
        example(f"input {n * 7919} of its own {n}", "rare" if n % 60 == 0 else f"answer {n}", n)
        for n in range(1, 1801)
    ]
    found = decide(*given_, spec=DATES)
    assert len({item.group for item in found.values() if item.answer == "rare"}) == 1


# -- what must hold for any data ---------------------------------------------------------------

FRAMES = ("where is order {}", "please send order {} again to my new address, thank you", "{}")
texts = st.builds(str.format, st.sampled_from(FRAMES), st.integers(0, 12))
origins = st.sampled_from(["generated", "imported", "written"])


@st.composite
def batches(draw, of=origins):
    drawn = draw(st.lists(st.tuples(texts, st.sampled_from(LABEL.labels), of), max_size=25))
    return [example(text, answer, n, origin=o) for n, (text, answer, o) in enumerate(drawn, 1)]


specs = st.sampled_from([LABEL, TEXT, None, DATES])


@given(batches(), specs)
def test_everybody_is_decided_once_and_no_two_kept_ones_repeat_or_contradict(batch, spec):
    done = list(clean(batch, spec, similarity=0.8))
    assert sorted(item.id for item in done) == [item.id for item in batch]
    kept = [item for item in done if item.state == "accepted"]
    assert len({fold(item.input) for item in kept}) == len(kept)
    for i, one in enumerate(kept):
        for other in kept[:i]:
            assert one.answer != other.answer or jaccard(one.input, other.input) < 0.8
    for item in done:
        assert item.group
        assert (item.state == "rejected") == bool(item.reason)
        assert item.twin is None or item.twin in {other.id for other in kept}


@given(batches(), st.randoms(), specs)
def test_the_order_of_arrival_changes_nothing(batch, chance, spec):
    """Ids say which came first."""
    mixed = chance.sample(batch, len(batch))
    assert decide(*mixed, spec=spec) == decide(*batch, spec=spec)


@given(batches(st.just("generated")), st.data(), specs)
def test_cleaning_in_two_goes_is_cleaning_in_one(batch, data, spec):
    cut = data.draw(st.integers(0, len(batch)))
    first = decide(*batch[:cut], spec=spec)
    assert decide(*batch[cut:], spec=spec, decided=first.values()) | first == decide(
        *batch, spec=spec
    )


@given(batches(), batches(), specs)
def test_what_is_decided_is_never_moved_to_another_group(batch, more, spec):
    first = decide(*batch, spec=spec)
    later = [replace(item, id=item.id + 100) for item in more]
    second = decide(*later, spec=spec, decided=first.values())
    for number in first.keys() & second.keys():
        assert second[number] == replace(
            first[number],
            state="rejected",
            reason=second[number].reason,
            twin=second[number].twin,
        )
        assert first[number].origin != "written"


@given(batches(), st.integers(0, 100), specs)
def test_what_was_cleaned_never_leaks(batch, seed, spec):
    answer = "none" if spec is LABEL else "filling {}"
    fill = [
        example(f"filling number {n * 7919} of its own", answer.format(n), 100 + n)
        for n in range(10)
    ]
    done = clean([*batch, *fill], spec, similarity=0.8)
    splits = freeze(done, seed=seed, validation_share=0.2, test_share=0.3)
    check_leaks(splits, similarity=0.8, free_text=spec is None or spec.kind == "text")


# -- one by one --------------------------------------------------------------------------------


@given(batches(), specs, st.sampled_from([0.5, 0.8]))
def test_deciding_one_by_one_in_order_is_cleaning_at_once(batch, spec, similarity):
    kept = Kept(spec, similarity)
    ordered = sorted(batch, key=precedence)
    streamed = [done for item in ordered for done in decide_one(kept, item)]
    assert streamed == list(clean(batch, spec, similarity=similarity))
    assert len(kept) == sum(item.state == "accepted" for item in streamed)


@given(batches(), batches(), specs)
def test_what_is_kept_from_one_go_serves_the_next(batch, more, spec):
    """Adding to what is kept is building it anew, also where an own example took a place."""
    kept = Kept(spec, 0.8)
    first = {done.id: done for item in batch for done in decide_one(kept, item)}
    later = sorted((replace(item, id=item.id + 100) for item in more), key=precedence)
    streamed = {done.id: done for item in later for done in decide_one(kept, item)}
    assert streamed == decide(*later, spec=spec, decided=first.values())


def test_an_example_that_loses_its_place_comes_back_whole():
    """Whatever it carries: only its state, reason and twin are new."""
    first = Example(
        (Message("system", "Short."), Message("user", f"{LONG} \ud800 ☃")),
        "late",
        origin="generated",
        group="a group",
        maker="a model",
        source="ledger:1",
        cell={"tone": "cross"},
        task_version=3,
        id=1,
    )
    own = replace(first, origin="written", answer="lost", id=2, group="")
    kept = Kept(LABEL, 0.8)
    (accepted,) = decide_one(kept, first)
    lost, taken = decide_one(kept, own)
    assert lost == replace(accepted, state="rejected", reason="contradicts 2", twin=2)
    assert (taken.state, taken.group, len(kept)) == ("accepted", "a group", 1)


def test_what_was_decided_may_be_a_stream():
    decided = (example(f"{OTHER} {n * 7919}", "none", n, state="accepted") for n in range(1, 9))
    found = decide(example(f"{OTHER} {3 * 7919}", "late", 9), decided=decided)
    assert found[9].reason == "contradicts 3"
