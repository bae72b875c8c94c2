"""The test images that the finished network is surest of and wrong about."""

from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from jaxnas.report.answers import NONE, answers, mistakes
from jaxnas.report.formats import percent
from jaxnas.report.model import Judged, ReportData
from jaxnas.report.pictures import LARGEST, levels, picture
from jaxnas.report.section import Section, fill, paragraph
from jaxnas.report.svg import tag

SHOWN = 24


@dataclass(frozen=True)
class Mistake:
    """One image: its place in its split, label, answer, and the probabilities of both."""

    place: int
    label: str
    answer: str
    sure: str
    of_label: str
    picture: Markup | None


def listed(judged: Judged) -> list[Mistake]:
    """The mistakes shown, the surest first; images of one pixel, as of tables, are not drawn."""
    places, given, names = mistakes(judged, SHOWN), answers(judged), judged.class_names
    images = levels(np.asarray(judged.images[places])) if len(places) else ()
    found = []
    for k, image in zip(places.tolist(), images, strict=True):
        place = k if judged.places is None else int(judged.places[k])
        label, answer = int(judged.y[k]), int(given[k])
        probability = judged.probabilities[k]
        drawn = image.shape[0] * image.shape[1] > 1
        alt = f"{judged.split} image {place}: {names[label]}, taken for {names[answer]}"
        found.append(
            Mistake(
                place,
                names[label],
                names[answer],
                percent(float(probability[answer]), 1),
                percent(float(probability[label]), 1),
                picture(image, alt) if drawn else None,
            )
        )
    return found


def _render(data: ReportData) -> Markup | None:
    judged = data.judged
    if judged is None or not len(judged.y):
        return None
    found, given = listed(judged), answers(judged)
    if not found:
        none = f"Of {len(judged.y):,} {judged.split} images none was taken for another class."
        return paragraph(none)
    wrong = int(((given != judged.y) & (given != NONE)).sum())
    many = f"{len(found)} of {wrong:,}" if len(found) < wrong else f"All {wrong:,}"
    text = (
        f"{many} misclassified {judged.split} images, the surest answer first: the class, what it was "
        "taken for, the probability of that, and of its own class."
    )
    if max(judged.images.shape[1:3]) > LARGEST:
        text += f" They are shown at {LARGEST} pixels."
    return tag("p", text, class_="lead") + fill("mistakes.html", mistakes=found)


SECTION = Section("mistakes", "Surest mistakes", _render)
