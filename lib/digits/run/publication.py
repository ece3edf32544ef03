"""Publish a run: copy what readers, the app and comparisons need of it to outputs/reference/, which is committed.

Of a quick run only the record and the numbers are kept, in outputs/reference-quick/: it is there to be compared with.
"""

import shutil

from digits import files as paths
from digits.files import RunError, listing, read_json, write_json
from digits.run import comparison, console, folders, provenance, tolerances
from digits.run.folders import Place

LEFT_OUT = (
    "data",
    "figures",
    "notebooks",
    comparison.FILE,
)  # large, or in the report already; or about another run
NUMBERS = ("run.json", "metrics.json")


def publish(name: str, profile: str = "standard") -> int:
    """Copy the finished run ``name`` to its profile's published place; RunError says why it may not be published."""
    place = Place(paths.OUTPUTS, folders.check_run_name(name))
    published = paths.reference(profile)
    target = Place(published.parent, published.name)
    with folders.locked(place), folders.locked(target):
        for note in folders.repair(target):
            console.say(note)
        record = read_json(place.final / "run.json")
        if reasons := objections(record, place, profile):
            raise RunError(f"{name!r} cannot be published: " + "; ".join(reasons) + ".")
        left_out = _left_out(place, profile)
        kept_back = {
            *left_out,
            "run.json",
        }  # the record comes last: a copy that was cut off is no finished run
        shutil.copytree(
            place.final,
            target.building,
            ignore=lambda folder, names: [
                name
                for name in names
                if name.startswith(".") or (name in kept_back and folder == str(place.final))
            ],
        )
        stated = {
            "source": "defaults",
            "numbers": tolerances.default(read_json(place.final / "metrics.json")),
        }
        write_json(
            target.building / "run.json",
            record | {"published_without": left_out, "tolerances": stated},
        )
        folders.swap(target)
    console.say(f"Published {name!r} as {provenance.tidy(str(target.final))}/.")
    return 0


def objections(record: dict, place: Place, profile: str) -> list[str]:
    """Why this run may not stand as the published one; [] when it may."""
    code, dataset = record.get("code", {}), record.get("dataset", {})
    carried = [
        stage["notebook"]
        for stage in record.get("stages", [])
        if stage.get("carried_over", {}).get("code", code) != code
    ]
    files = listing(place.final)
    visitors = (
        read_json(place.final / "metrics.json")
        .get("03_evaluation", {})
        .get("feedback", {})
        .get("n", 0)
    )
    for own in ("run.json", comparison.FILE):
        files.pop(own, None)
    checks = {
        "it did not finish": record.get("status") != "finished",
        f"its profile is {record.get('profile')!r}, not {profile!r}": record.get("profile")
        != profile,
        f"its parameters were changed ({', '.join(record.get('settings', []))})": bool(
            record.get("settings")
        ),
        f"its data is {dataset.get('name')!r}, not 'mnist'": dataset.get("name") != "mnist"
        and profile == "standard",
        "its code is not a commit": code.get("commit") is None or bool(code.get("dirty")),
        f"{', '.join(carried)} ran with other code": bool(carried),
        f"it reports on {visitors:,} verdicts of visitors, which nobody else has (put outputs/feedback aside)": visitors
        > 0,
        "its files are not the recorded ones": files != record.get("files"),
    }
    return [reason for reason, applies in checks.items() if applies]


def _left_out(place: Place, profile: str) -> list[str]:
    """What is not published of the run's folder."""
    if profile == "standard":
        return list(LEFT_OUT)
    return sorted(path.name for path in place.final.iterdir() if path.name not in NUMBERS)
