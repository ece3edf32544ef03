"""Publish a run: copy what readers and the app need of it to outputs/reference/, which is committed."""

import shutil

from digits import console, folders, paths, provenance
from digits.folders import Place
from digits.records import RunError, listing, read_json, write_json

LEFT_OUT = ("data", "figures", "notebooks")  # large, or in the report already


def publish(name: str) -> int:
    """Copy the finished run ``name`` to ``outputs/reference/``; RunError says why it may not be published."""
    place = Place(paths.OUTPUTS, folders.check_run_name(name))
    target = Place(paths.REFERENCE.parent, paths.REFERENCE.name)
    with folders.locked(place), folders.locked(target):
        folders.repair(target)
        record = read_json(place.final / "run.json")
        if reasons := objections(record, place):
            raise RunError(f"{name!r} cannot be published: " + "; ".join(reasons) + ".")
        shutil.copytree(place.final, target.building, ignore=_leave_out(place))
        write_json(target.building / "run.json", record | {"published_without": list(LEFT_OUT)})
        folders.swap(target)
    console.say(f"Published {name!r} as {provenance.tidy(str(target.final))}/.")
    return 0


def objections(record: dict, place: Place) -> list[str]:
    """Why this run may not stand as the published one; [] when it may."""
    code, dataset = record.get("code", {}), record.get("dataset", {})
    carried = [stage["notebook"] for stage in record.get("stages", [])
               if stage.get("carried_over", {}).get("code", code) != code]
    files = listing(place.final)
    visitors = read_json(place.final / "metrics.json").get("03_evaluation", {}).get("feedback", {}).get("n", 0)
    files.pop("run.json", None)
    checks = {
        "it did not finish": record.get("status") != "finished",
        f"its profile is {record.get('profile')!r}, not 'standard'": record.get("profile") != "standard",
        f"its parameters were changed ({', '.join(record.get('settings', []))})": bool(record.get("settings")),
        f"its data is {dataset.get('name')!r}, not 'mnist'": dataset.get("name") != "mnist",
        "its code is not a commit": code.get("commit") is None or bool(code.get("dirty")),
        f"{', '.join(carried)} ran with other code": bool(carried),
        f"it reports on {visitors:,} verdicts of visitors, which nobody else has (put outputs/feedback aside)": visitors > 0,
        "its files are not the recorded ones": files != record.get("files"),
    }
    return [reason for reason, applies in checks.items() if applies]


def _leave_out(place: Place):
    """An ``ignore`` for copytree: the folders that are left out, at the top only."""
    return lambda folder, _names: LEFT_OUT if folder == str(place.final) else ()
