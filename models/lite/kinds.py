"""Kinds of things above ImageNet's classes: "bird", "vehicle", "musical instrument".

ImageNet's classes are nouns of WordNet 3.0. A kind is a noun that WordNet has above some of them,
and covers those classes. Most such nouns are not words that people use for what a photograph shows
("placental", "instrumentality"); `_NOUNS` lists those that are, by the word that people use.

The kinds ship as `kinds.json`. `python -m regard.models.lite.kinds /usr/share/wordnet` rebuilds the
file from WordNet's `data.noun` (Debian's package wordnet-base) and the pinned ids of the classes.
"""

from __future__ import annotations

import functools
import json
import math
import re
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np

from regard.core.errors import ModelError
from regard.core.records import Float32Array
from regard.models.lite.classifier import CLASSES
from regard.models.lite.vocabulary import class_texts
from regard.models.lite.weights import CLASS_IDS

FILE = "kinds.json"

# The WordNet ids of each kind. Food is what nourishes, or what is solid; a cat is any feline. The
# containers leave out vehicles, which WordNet counts among them.
_NOUNS: Mapping[str, Sequence[int]] = {
    "animal": (15388,), "bird": (1503061,), "fish": (2512053,), "reptile": (1661091,),
    "amphibian": (1627424,), "insect": (2159955,), "crustacean": (1974773,), "spider": (1772222,),
    "crab": (1976957,), "lobster": (1982650,), "beetle": (2164464,), "butterfly": (2274259,),
    "worm": (1922303,), "mollusk": (1940736,), "mammal": (1861778,), "dog": (2084071,),
    "cat": (2120997,), "bear": (2131653,), "monkey": (2484322,), "ape": (2470325,),
    "rodent": (2329401,), "rabbit": (2324045,), "marsupial": (1874434,), "wolf": (2114100,),
    "fox": (2118333,), "whale": (2062744,), "elephant": (2503517,), "antelope": (2419796,),
    "pig": (2395003,), "snake": (1726692,), "lizard": (1674464,), "turtle": (1662784,),
    "salamander": (1629276,), "frog": (1639765,), "shark": (1482330,), "ray": (1495701,),
    "parrot": (1816887,), "heron": (2008041,), "duck": (1846331,), "bird of prey": (1604330,),
    "terrier": (2092468,), "hound": (2087551,), "spaniel": (2101108,), "retriever": (2099029,),
    "poodle": (2113335,), "sheepdog": (2104523,), "vehicle": (4524313,), "car": (2958343,),
    "truck": (4490091,), "bus": (2924116,), "van": (4520170,), "ship": (4194289,),
    "boat": (2858304,), "aircraft": (2686568,), "bicycle": (2834778,), "locomotive": (3684823,),
    "musical instrument": (3800933,), "wind instrument": (4586932,),
    "stringed instrument": (4338517,), "percussion instrument": (3915437,),
    "keyboard instrument": (3614532,), "guitar": (3467517,), "piano": (3928116,),
    "brass instrument": (2891788,), "device": (3183080,), "machine": (3699975,),
    "tool": (4451818,), "weapon": (4565375,), "gun": (3467984,), "knife": (3623556,),
    "home appliance": (3528263,), "computer": (3082979,), "telephone": (4401088,),
    "timepiece": (4437953,), "measuring instrument": (3733925,), "camera": (2942699,),
    "lamp": (3636248,), "equipment": (3294048,),
    "container": (4531098, 2883344, 2773037, 2801938, 2946921,), "bottle": (2876657,),
    "box": (2883344,), "bag": (2773037,), "basket": (2801938,), "pot": (3990474,),
    "pan": (3880531,), "jar": (3593526,), "jug": (3603722,), "bowl": (2880940,),
    "glass": (3438257,), "kitchen utensil": (3621049,), "furniture": (3405725,),
    "seat": (4161981,), "chair": (3001627,), "table": (4379243,), "cabinet": (2933112,),
    "clothing": (3051540,), "headgear": (3502509,), "hat": (3497657,), "cap": (2954340,),
    "footwear": (3380867,), "shoe": (4199027,), "coat": (3057021,), "skirt": (4230808,),
    "sweater": (4370048,), "scarf": (4143897,), "swimsuit": (4371563,), "mask": (3725035,),
    "necktie": (3815615,), "helmet": (3513137,), "armor": (2739668,), "gown": (3450516,),
    "curtain": (3151077,), "fabric": (3309808,), "ball": (2778669,),
    "sports equipment": (4285146,), "toy": (3964744,), "pen": (3906997,), "structure": (4341686,),
    "building": (2913152,), "shop": (4202417,), "fence": (3327234,), "bridge": (2898711,),
    "place of worship": (3953416,), "mountain": (9359803,), "barrier": (2796623,),
    "food": (7555863, 21265,), "fruit": (7705931,), "vegetable": (7707451,), "squash": (7715561,),
    "bread": (7679356,), "dessert": (7609840,), "dish": (7557434,), "drink": (7881800,),
    "sandwich": (7695965,), "sauce": (7829412,), "baked goods": (7622061,), "fungus": (12992868,),
    "flower": (11669921,), "seed": (13135832,), "eagle": (1613294,), "owl": (1621127,),
    "hawk": (1605630,), "gecko": (1674990,), "dinosaur": (1699831,), "penguin": (2055803,),
    "swan": (1858441,), "kangaroo": (1877134,), "seal": (2076196,), "squirrel": (2355227,),
    "horse": (2374451,), "cattle": (2402425,), "sheep": (2411705,), "goat": (2416519,),
    "camel": (2437136,), "dolphin": (2068974,), "egret": (2008796,), "cockatoo": (1819115,),
    "crocodile": (1697178,), "alligator": (1698434,), "pheasant": (1803078,),
    "airplane": (2691156,), "train": (4468005,), "tent": (4411264,), "motorcycle": (3790512,),
    "mirror": (3773035,), "glove": (3441112,), "shirt": (4197391,), "trousers": (4489008,),
    "boot": (2872752,), "watch": (4555897,), "brush": (2908217,), "bench": (2828884,),
    "sofa": (4256520,), "bed": (2818832,), "rug": (4118021,), "sign": (6793231,),
    "mug": (3797390,), "spoon": (4284002,), "tower": (4460130,), "telescope": (4403638,),
    "microscope": (3760671,), "door": (3221720,), "gate": (3427296,), "spectacles": (4272054,),
    "belt": (2827606,), "bandage": (2785648,), "dress": (3236735,), "jewelry": (3597469,),
    "apple": (7739125,), "pepper": (7720442,), "potato": (7710616,), "cabbage": (7713895,),
    "soup": (7583197,), "wine": (7891726,), "coffee": (7929519,), "orchid": (12041446,),
    "berry": (7742704,), "hamburger": (7697100,), "stocking": (4323819,), "rocket": (4099429,),
    "spacecraft": (4264914,), "drill": (3239726,), "pistol": (3948459,), "lantern": (3640988,),
    "can": (2946921,), "magazine": (6595351,), "light": (3665366,), "cushion": (3151500,),
    "bin": (2839910,), "stereo": (4315948,), "cosmetic": (3113152,), "towel": (4459362,),
    "wheel": (4574999,), "lock": (3682487,),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Names:
    """What can be said of a thing: the n kinds and, after them, the 1000 classes.

    `members` (n + 1000, 1000) is 1 for the classes that a name covers. `specificity` (n + 1000,),
    from 0 to 1, is the information content of a name: 1 - log(h) / log(H) with h of all H nouns of
    WordNet at or below it (Seco et al., 2004). It counts what ImageNet has no class for, too:
    "penguin" covers one class, and five other penguins.
    """

    texts: tuple[str, ...]
    members: Float32Array
    specificity: Float32Array


@functools.cache
def names() -> Names:
    """Load the shipped kinds, and the classes; raises ModelError when the file is damaged."""
    try:
        content = json.loads(resources.files(__package__).joinpath(FILE).read_bytes())
        kinds = content["kinds"]
        members = np.zeros((len(kinds), CLASSES), np.float32)
        for row, kind in zip(members, kinds.values(), strict=True):
            row[kind["classes"]] = 1
        nouns = [kind["nouns"] for kind in kinds.values()] + content["class_nouns"]
        specificity = 1 - np.log(nouns) / math.log(content["nouns"])
    except (OSError, ValueError, KeyError, AttributeError, IndexError) as error:
        raise ModelError(
            f"the lite profile's {FILE} is missing or damaged", remedy="reinstall regard"
        ) from error
    return Names(
        texts=(*kinds, *map(plain_name, class_texts().names)),
        members=np.vstack([members, np.eye(CLASSES, dtype=np.float32)]),
        specificity=specificity.astype(np.float32),
    )


def plain_name(name: str) -> str:
    """Strip articles and disambiguation from a class name: "drake (male duck)" → "drake"."""
    return re.sub(r"^an? |\s*\(.*?\)|\s+/.*", "", name)


def main(folder: Path) -> None:
    """Rebuild `kinds.json` beside this module from the folder of WordNet's database."""
    licence: list[str] = []
    hypernyms: dict[int, list[int]] = {}
    for line in (folder / "data.noun").read_text("utf-8").splitlines():
        if line.startswith("  "):
            licence.append(line.strip().partition(" ")[2].strip())
            continue
        # Id, file, type, count of words, words with numbers, count of pointers, pointers: wndb(5WN).
        fields = line.split(" | ", 1)[0].split()
        pointers = fields[5 + 2 * int(fields[3], 16) :]
        hypernyms[int(fields[0])] = [
            int(target)
            for symbol, target in zip(pointers[::4], pointers[1::4], strict=False)
            if symbol in ("@", "@i")
        ]

    @functools.cache
    def lineage(noun: int) -> frozenset[int]:
        return frozenset({noun}).union(*map(lineage, hypernyms[noun]))

    below = Counter(above for noun in hypernyms for above in lineage(noun))
    ids = json.loads(CLASS_IDS.read())
    classes = [int(ids[str(number)].removeprefix("n")) for number in range(CLASSES)]
    kinds = {
        name: {
            "nouns": sum(below[noun] for noun in nouns),
            "classes": [
                number for number, noun in enumerate(classes) if not lineage(noun).isdisjoint(nouns)
            ],
        }
        for name, nouns in _NOUNS.items()
    }
    lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(kind)}" for name, kind in kinds.items())
    Path(__file__).with_name(FILE).write_text(
        f'{{"licence": {json.dumps(" ".join(licence))},\n"nouns": {len(hypernyms)},\n'
        f'"class_nouns": {json.dumps([below[noun] for noun in classes])},\n'
        f'"kinds": {{\n{lines}\n}}}}\n',
        "utf-8",
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
