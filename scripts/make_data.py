"""Make examples/data from the source distributions it is taken from.

    pip download --no-deps --no-binary :all: usaddress==0.5.16 vaderSentiment==3.3.2
    python scripts/make_data.py usaddress-0.5.16.tar.gz vaderSentiment-3.3.2.tar.gz

The archives are checked against their SHA-256 and the choice is seeded: the same files come out each time.
"""

from __future__ import annotations

import argparse
import hashlib
import html
import io
import json
import random
import re
import tarfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Iterator
from pathlib import Path

DATA = Path(__file__).parents[1] / "examples" / "data"

SHA256 = {
    "usaddress": "f7e614e2489c159cf85be1b6f86edbfaf329dbeedef4d002a025757afd1ec6c6",
    "vader": "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
}
ADDRESSES = 400
REVIEWS = 300

Row = dict[str, str]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("usaddress", type=Path, help="usaddress-0.5.16.tar.gz")
    parser.add_argument("vader", type=Path, help="vaderSentiment-3.3.2.tar.gz")
    arguments = parser.parse_args()
    DATA.mkdir(parents=True, exist_ok=True)
    labelled = addresses(member(arguments.usaddress, SHA256["usaddress"], "training/labeled.xml"))
    write("addresses", chosen(labelled, ADDRESSES))
    icwsm = member(arguments.vader, SHA256["vader"], "additional_resources/hutto_ICWSM_2014.tar.gz")
    rated = list(reviews(inner(icwsm, "amazonReviewSnippets_GroundTruth.txt")))
    balanced = [
        row
        for sentiment in ("positive", "negative")
        for row in chosen((row for row in rated if row["sentiment"] == sentiment), REVIEWS // 2)
    ]
    write("sentiment", chosen(balanced, REVIEWS))


def member(archive: Path, sha256: str, name: str) -> bytes:
    """The file ``name`` in an archive that has to be the one meant."""
    content = archive.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise SystemExit(f"{archive} has SHA-256 {found}, not {sha256}: it is another version")
    return inner(content, name)


def inner(archive: bytes, name: str) -> bytes:
    """The file whose path ends in ``name`` in a packed archive."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for entry in tar:
            file = tar.extractfile(entry) if entry.name.endswith(name) else None
            if file is not None:
                return file.read()
    raise SystemExit(f"there is no {name} in the archive")


# Addresses.

PARTS = {"AddressNumber": "number", "PlaceName": "city", "StateName": "state", "ZipCode": "zip_code"}
FIELDS = ["number", "street", "city", "state", "zip_code"]
LIKELY = {
    "number": re.compile(r"\d+[A-Za-z]?(-\d+)?"),
    "street": re.compile(r"[\w'/.,& -]+"),
    "city": re.compile(r"[A-Za-z.' -]+"),
    "state": re.compile(r"[A-Za-z]{2}|[A-Z][a-z]+( [A-Z][a-z]+)*"),
    "zip_code": re.compile(r"\d{5}(-\d{4})?"),
}
# Names of people and of companies are not needed for this.
UNWANTED = {"Recipient", "NotAddress"}


def addresses(xml: bytes) -> Iterator[Row]:
    """The addresses that have each of the five parts, once and in the usual order, each house once."""
    seen: set[tuple[str, ...]] = set()
    for labelled in ElementTree.fromstring(xml):
        text = " ".join("".join(labelled.itertext()).split())
        parts: dict[str, list[str]] = {}
        order: list[str] = []
        for word in labelled:
            part = "street" if word.tag.startswith("StreetName") else PARTS.get(word.tag, word.tag)
            parts.setdefault(part, []).append((word.text or "").strip())
            if not order or order[-1] != part:
                order.append(part)
        if [part for part in order if part in FIELDS] != FIELDS or UNWANTED & parts.keys():
            continue
        row = {"address": text, **{field: " ".join(parts[field]).strip(" ,.;") for field in FIELDS}}
        same = (row["number"], row["street"].lower(), row["zip_code"][:5])
        fits = all(pattern.fullmatch(row[field]) for field, pattern in LIKELY.items())
        if fits and same not in seen and len(text) <= 90 and re.fullmatch(r"[ !#-~]+", text):
            seen.add(same)
            yield row


# Reviews.

CLEAR = 1.4
"""How far from neutral (0) the mean of the twenty ratings has to be, on a scale from -4 to 4."""


def reviews(table: bytes) -> Iterator[Row]:
    """The sentences of reviews that people found clearly positive or clearly negative."""
    seen = set()
    for line in table.decode("utf-8-sig", "replace").splitlines():
        _, rating, text = line.split("\t")
        text = " ".join(html.unescape(text).split())
        if abs(float(rating)) < CLEAR or not 25 <= len(text) <= 200 or not re.fullmatch(r"[ -~]+", text):
            continue
        if text.lower() not in seen:
            seen.add(text.lower())
            yield {"review": text, "sentiment": "positive" if float(rating) > 0 else "negative"}


def chosen(rows: Iterable[Row], count: int) -> list[Row]:
    """``count`` of them, in random order, the same each time."""
    return random.Random(0).sample(list(rows), count)


def write(name: str, rows: list[Row]) -> None:
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (DATA / f"{name}.jsonl").write_text(text, "utf-8")


if __name__ == "__main__":
    main()
