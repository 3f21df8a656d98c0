"""Many records at a time: the same verdict, the same words and the same sums as one at a time."""

import copy
import io
from random import Random

import generated
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import bundle_fields, report, transaction, trusted

from airgap import blockwise, catalog, coverage, timestamps, verify, windows
from airgap.blockwise import Blockwise
from airgap.bundle.layout import Header
from airgap.bundle.writer import Writer
from airgap.contents import Contents
from airgap.coverage import Coverage
from airgap.errors import AirgapError
from airgap.trust import keys
from airgap.trust.store import TrustStore
from airgap.windows import Timeline

SCHEMAS = catalog.load()
KEY = keys.from_seed(bytes(32))
TRUST = TrustStore({}).with_key(trusted(KEY, "exporter"))
JSON_KINDS = tuple(k.name for k in SCHEMAS.kinds.values() if k.body == "json")
CREDENTIALS = {
    "license": [f"license:{n}" for n in ("0" * 32, "f" * 32)],
    "api_key": ["api_key:" + "1" * 32],
}


def records(random, count, names=tuple(SCHEMAS.kinds)):
    """Return records of several kinds; their payloads are what the schemas seem to ask for."""
    made = []
    for _ in range(count):
        kind = SCHEMAS.kind(random.choice(names))
        dialect = random.choice(list(kind.dialects.values()))
        payload = generated.made(SCHEMAS.schema(f"kinds/{kind.name}"), random, {})
        made.append(
            {
                "kind": kind.name,
                "dialect": dialect.name,
                "credential": random.choice(CREDENTIALS[dialect.credential.type]),
                "occurrence": 0 if kind.identity else random.choice([0, 0, 0, 3]),
                "payload": payload,
            }
        )
    return made


def spoilt(made, random):
    """Return records of which one has a fault, somewhere, that may be none after all."""
    made = copy.deepcopy(made)
    one = random.randrange(len(made))
    schema = {**SCHEMAS.schema("record")}
    kind = made[one]["kind"]
    schema["properties"] = {**schema["properties"], "payload": SCHEMAS.schema(f"kinds/{kind}")}
    made[one] = generated.spoilt(made[one], schema, random, {})
    return made


def one_by_one(elements):
    """Return what records come to as ``airgap.verify`` checks one at a time, or the refusal."""
    contents = Contents()
    try:
        for place, element in enumerate(elements):
            verify._read_record(element, contents, SCHEMAS, where=str(place))
    except AirgapError as error:
        return error
    return contents


def told(contents):
    timeline = contents.timeline
    return (
        contents.as_map(SCHEMAS),
        dict(timeline.overlapping),
        timeline.backwards,
        timeline.newest,
        sorted(timeline.known()),
        timeline.used(),
    )


def _has_whole_float(value):
    if isinstance(value, dict):
        return any(map(_has_whole_float, value.values()))
    if isinstance(value, list):
        return any(map(_has_whole_float, value))
    return isinstance(value, float) and value == value // 1


@pytest.mark.parametrize("part", range(3))
def test_what_passes_together_passes_alone_and_comes_to_the_same(part):
    passed = 0
    for seed in range(part * 60, part * 60 + 60):
        random = Random(seed)
        names = random.choice([("usage_report",), ("trace_transactions",), JSON_KINDS])
        made = records(random, random.randint(1, 30), names)
        if seed % 3:
            made = spoilt(made, random)
        if _has_whole_float(made):
            continue  # a block that holds one says so, and is not asked
        together, batch = Contents(), Blockwise(SCHEMAS)
        whole = [made] if seed % 2 else [made[:7], made[7:]]
        if all(batch.add(part, together) for part in whole if part):
            alone = one_by_one(made)
            assert isinstance(alone, Contents), (seed, alone)
            assert told(together) == told(alone), seed
            passed += 1
    assert passed > 10


@pytest.mark.parametrize("kind", JSON_KINDS)
def test_valid_records_of_every_kind_with_a_json_body_pass_together(kind):
    random, batch = Random(kind), Blockwise(SCHEMAS)
    made = [r for r in records(random, 60, (kind,)) if isinstance(one_by_one([r]), Contents)]
    assert len(made) > 20
    together = Contents()
    assert batch.add(made, together)
    assert told(together) == told(one_by_one(made))


def test_what_fails_together_changes_nothing():
    contents, batch = Contents(), Blockwise(SCHEMAS)
    made = records(Random(1), 20, ("license_verification", "api_key_verification"))
    [counted] = records(Random(1), 1, ("trace_transactions",))
    late = {"end_interval_time": "9999-12-31T23:59:59-00:01"}
    for fault in (
        {**counted, "occurrence": 1},
        {**counted, "credential": CREDENTIALS["api_key"][0]},
        {**counted, "payload": {**transaction(1), **late}},
        {**made[0], "occurrence": -1},
        {**made[0], "kind": "unknown"},
        {**made[0], "kind": ["unknown"]},
        {**made[0], "dialect": "unknown"},
        {**made[0], "credential": "other:" + "0" * 32},
        {**made[0], "payload": {"more": 1}},
        [],
        "text",
        None,
    ):
        assert not batch.add([*made, fault], contents)
    assert told(contents) == told(Contents())
    assert batch.add(made, contents)


def test_records_that_name_more_than_a_manifest_can_list_are_left_to_one_at_a_time():
    def record(number, **payload):
        value = report(1, 0)
        del value["license"]
        credential = f"license:{payload.pop('credential', 0):032x}"
        return {
            "kind": "usage_report",
            "dialect": "documents",
            "credential": credential,
            "occurrence": number,
            "payload": {**value, **payload},
        }

    many = [record(n, credential=n) for n in range(1025)]
    names = [record(n, tags={f"t{n}-{m}": "" for m in range(100)}) for n in range(11)]
    sums = [record(n, measures={f"m{n}-{m}": 1 for m in range(128)}) for n in range(33)]
    for made in (many, names, sums):
        contents, batch = Contents(), Blockwise(SCHEMAS)
        assert batch.add(made[:5], contents)
        assert not batch.add(made[5:], contents)
        assert told(contents) == told(one_by_one(made[:5]))
        assert "more" in str(one_by_one(made).message)


def verdict(made):
    """Return what verification makes of a signed bundle of these records: sums, or the refusal."""
    stream = io.BytesIO()
    writer = Writer(stream, Header("bundle"))
    for element in made:
        writer.add(element)
    alone = one_by_one(made)
    fields = alone.as_map(SCHEMAS) if isinstance(alone, Contents) else {}
    writer.finish(bundle_fields(**fields), [KEY.sign])
    try:
        bundle = verify.verify_bundle(stream, name="b", trust=TRUST, catalog=SCHEMAS)
    except AirgapError as error:
        return error.as_json()
    return [r for _, r in bundle.records()], bundle.totals, sorted(bundle.timeline.known())


def test_a_bundle_is_verified_alike_with_and_without_what_makes_it_quick():
    for seed in range(40):
        random = Random(seed)
        made = records(random, 20)
        if seed % 4:
            made = spoilt(made, random)
        quick = verdict(made)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Blockwise, "add", lambda *_: False)
            assert verdict(made) == quick, seed


@pytest.mark.parametrize("value", [1.0, 0.0, -0.0, 2.0**53])
def test_a_float_that_is_a_whole_number_is_no_count(value):
    """A schema takes it for an integer, and a sum of it would not be exact."""
    value_of = transaction(1)
    for field in ("trace_count", "num_failed_send_attempts"):
        made = [
            {
                "kind": "trace_transactions",
                "dialect": "documents",
                "credential": "license:" + "0" * 32,
                "occurrence": 0,
                "payload": {**value_of, **({field: value} if number == 99 else {})},
            }
            for number in range(200)
        ]
        found = verdict(made)
        assert found["exit_code"] == 3
        assert "record 99" in found["where"]


@given(st.from_regex(SCHEMAS.schema("kinds/usage_report")["properties"]["to_timestamp"]["pattern"]))
def test_a_time_that_passes_its_schema_is_read_alike_both_ways(text):
    text = text.rstrip("\n")
    if not timestamps.is_date_time(text):
        return
    [kind] = [k for k in SCHEMAS.kinds.values() if k.name == "usage_report"]
    payload = dict.fromkeys(kind.period, text)
    try:
        moment = windows.micros(timestamps.parse(text))
    except ValueError:
        assert blockwise._windows(kind, [payload]) is None
    else:
        assert blockwise._windows(kind, [payload]) == [(moment, moment)]


_WINDOWS = st.lists(
    st.tuples(st.integers(0, 40), st.integers(-3, 9), st.booleans(), st.sampled_from("ab")),
    min_size=1,
    max_size=20,
)


@given(st.lists(_WINDOWS, min_size=1, max_size=3), st.booleans())
def test_a_timeline_is_the_same_however_many_windows_come_at_a_time(parts, alone):
    one, many = Timeline(), Timeline()
    for part in parts:
        told = [(credential, (start, start + n), used) for start, n, used, credential in part]
        for credential, window, used in told:
            one.note("k", credential, window, used=used, alone=alone)
        many.note_all("k", told, alone=alone)
    for part in ("overlapping", "backwards", "newest"):
        assert getattr(one, part) == getattr(many, part)
    assert sorted(one.known()) == sorted(many.known())
    assert one.used() == many.used()


def test_windows_that_come_in_order_are_kept_in_runs_too():
    found = [(10 * n, 10 * n + 5) for n in range(5000)]
    covered = Coverage()
    for at in range(0, 5000, 700):
        covered.add_all(found[at : at + 700])
    assert covered.joined() == found
    assert max(map(len, covered._starts)) <= coverage._RUN
