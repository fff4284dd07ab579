# SPDX-License-Identifier: Apache-2.0
"""Fuzz the reviews that an admission webhook reads, and the settings it is given."""

import contextlib
import copy
import json
import sys

import atheris

with atheris.instrument_imports():
    import jsonpatch

    from ensconce.errors import EnsconceError
    from ensconce.kube.webhook import (
        Mutation,
        Policy,
        Where,
        answer,
        mutate,
        parse_policy,
        parse_review,
        validate,
    )

POLICIES = [Policy(), Policy(epc=("sgx.intel.com/epc",), provision_pods=("*",), require_epc=False)]


def one_input(data: bytes) -> None:
    with contextlib.suppress(EnsconceError, UnicodeDecodeError):
        parse_policy(data.decode(), "fuzz")
    try:
        review = parse_review(data)
    except EnsconceError:
        return
    before = copy.deepcopy(review.pod)
    for policy in POLICIES:
        for emulated in (False, True):
            where = Where(review.namespace, emulated)
            result = mutate(review.pod, where, policy)
            assert review.pod == before
            json.loads(answer(review, result))
            if isinstance(result, Mutation):
                after = jsonpatch.apply_patch(review.pod, list(result.patch))
                again = mutate(after, where, policy)
                assert isinstance(again, Mutation)
                assert not again.patch
                assert isinstance(validate(after, where, policy), Mutation)


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
