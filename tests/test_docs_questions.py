"""docs/questions.md shows what people are asked."""

from __future__ import annotations

import re

import pytest

from tests.guard.questions import BEGIN, END, PAGE, SCENES, Scene, rendered

MOST_WORDS = 90


def test_the_questions_in_the_documents_are_those_that_the_code_asks() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page.partition(BEGIN)[2].partition(END)[0].strip() == rendered().strip()


def test_the_question_in_the_readme_is_one_of_them() -> None:
    readme = (PAGE.parents[1] / "README.md").read_text(encoding="utf-8")
    quoted = " ".join(line.removeprefix("> ") for line in readme.splitlines() if line.startswith("> "))
    assert [scene.title for scene in SCENES if scene.question in quoted] == [SCENES[1].title]


def test_there_are_usual_and_unusual_ones() -> None:
    assert len(SCENES) >= 20
    assert 0 < sum(scene.usual for scene in SCENES) < len(SCENES)


@pytest.mark.parametrize("scene", [scene for scene in SCENES if scene.usual], ids=lambda scene: scene.title)
def test_a_usual_question_has_at_most_ninety_words(scene: Scene) -> None:
    assert len(scene.question.split()) <= MOST_WORDS


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.title)
def test_no_question_holds_the_whole_number_of_a_called_person(scene: Scene) -> None:
    asked = scene.question
    digits = re.sub(r"[^0-9]", "", asked)
    national = {task.to_number.removeprefix("+")[-9:] for task in scene.tasks or ()}
    assert [number for number in national if number in digits] == []


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.title)
def test_what_is_unusual_is_read_before_what_is_done(scene: Scene) -> None:
    found = scene.preflight
    before, called, _ = scene.question.partition("Call ")
    assert called
    assert [sentence for sentence in (*found.warnings, *found.unusual) if sentence not in before] == []
