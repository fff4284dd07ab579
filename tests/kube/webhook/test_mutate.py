# SPDX-License-Identifier: Apache-2.0
"""What becomes of pods with SGX resources."""

import pytest
from tests.kube.webhook.pods import (
    HERE,
    INTEL,
    TRUSTED,
    container,
    epc,
    limits,
    mutated,
    pod,
    refused,
    warned,
)

from ensconce.kube.names import EPC_ANNOTATION, Resource
from ensconce.kube.webhook import Mutation, Policy, Refusal, mutate, validate

ALIBABA = Policy()
MIB_NAMES = (Resource.EPC_ALIBABA, Resource.EPC_AZURE, Resource.EPC_OPENENCLAVE)


def test_a_pod_without_sgx_resources_is_left_alone() -> None:
    plain = pod(container("web", {"cpu": "1", "nvidia.com/gpu": "1"}), quotes="web")
    assert mutate(plain, HERE, INTEL) == Mutation()


@pytest.mark.parametrize("name", MIB_NAMES)
def test_every_name_in_mib_becomes_intels_where_nodes_offer_that(name: Resource) -> None:
    made = mutated(pod(container("app", {name: "10", "cpu": "1"})))
    assert limits(made) == {"cpu": "1", Resource.EPC_INTEL: "10Mi", Resource.ENCLAVE: "1"}
    assert made["metadata"]["annotations"][EPC_ANNOTATION] == "10Mi"


@pytest.mark.parametrize("name", MIB_NAMES)
def test_every_name_in_mib_becomes_alibabas_where_nodes_offer_that(name: Resource) -> None:
    made = mutated(pod(container("app", {name: "10"})), policy=ALIBABA)
    assert limits(made) == {Resource.EPC_ALIBABA: "10", Resource.ENCLAVE: "1"}


def test_bytes_become_mib_rounded_up() -> None:
    made = mutated(pod(epc("app", "1536Ki")), policy=ALIBABA)
    assert limits(made)[Resource.EPC_ALIBABA] == "2"
    assert made["metadata"]["annotations"][EPC_ANNOTATION] == "2Mi"


def test_a_name_that_nodes_offer_besides_stays() -> None:
    policy = Policy(epc=(Resource.EPC_ALIBABA, Resource.EPC_INTEL))
    assert limits(mutated(pod(epc("app")), policy=policy))[Resource.EPC_INTEL] == "1Mi"


def test_an_author_is_told_what_a_name_was_changed_to() -> None:
    said = warned(pod(container("app", {Resource.EPC_AZURE: "10"})))
    assert Resource.EPC_AZURE in said
    assert "sgx.intel.com/epc: 10Mi" in said


def test_two_names_for_the_same_memory_count_once() -> None:
    both = container("app", {Resource.EPC_ALIBABA: "10", Resource.EPC_INTEL: "10Mi"})
    assert limits(mutated(pod(both))) == {Resource.EPC_INTEL: "10Mi", Resource.ENCLAVE: "1"}


def test_two_names_that_differ_are_refused() -> None:
    both = container("app", {Resource.EPC_ALIBABA: "10", Resource.EPC_INTEL: "11Mi"})
    assert "'app' asks for 10 of alibaba" in refused(pod(both))


def test_init_containers_and_sidecars_get_the_device_too() -> None:
    starts = [epc("setup", "4Mi"), epc("side", "2Mi", restartPolicy="Always"), container("wait")]
    made = mutated(pod(epc("app"), initContainers=starts))
    assert limits(made, 0, "initContainers")[Resource.ENCLAVE] == "1"
    assert limits(made, 1, "initContainers")[Resource.ENCLAVE] == "1"
    assert made["spec"]["initContainers"][2] == starts[2]


def test_the_annotation_is_what_the_scheduler_counts() -> None:
    starts = [epc("side", "2Mi", restartPolicy="Always"), epc("setup", "16Mi")]
    for app, counted in (("8Mi", "18Mi"), ("20Mi", "22Mi")):
        made = mutated(pod(epc("app", app), initContainers=starts))
        assert made["metadata"]["annotations"][EPC_ANNOTATION] == counted


def test_a_wrong_annotation_is_put_right() -> None:
    before = pod(epc("app", "1Gi"))
    before["metadata"]["annotations"] = {EPC_ANNOTATION: "1Mi", "a": "b"}
    assert mutated(before)["metadata"]["annotations"] == {EPC_ANNOTATION: "1Gi", "a": "b"}


def test_marblerun_injects_for_intels_plugin_and_keeps_what_it_asked_for() -> None:
    asked = {Resource.EPC_INTEL: "10Mi", Resource.ENCLAVE: "1", Resource.PROVISION: "1"}
    before = pod(container("marble", asked, env=[{"name": "EDG_MARBLE_TYPE", "value": "a"}]))
    made = mutated(before, TRUSTED)
    assert limits(made) == asked
    assert made["spec"] == before["spec"]


@pytest.mark.parametrize("name", [Resource.PROVISION, Resource.QE, Resource.REGISTRATION])
def test_platform_wide_keys_are_for_named_service_accounts_only(name: Resource) -> None:
    before = pod(container("app", {name: "1", Resource.EPC_INTEL: "1Mi"}), serviceAccountName="sa")
    said = refused(before)
    assert f"'app' asks for {name}" in said
    assert '"team/sa"' in said
    policy = Policy(epc=INTEL.epc, provision_pods=("team/sa",))
    assert limits(mutated(before, policy=policy))[name] == "1"


def test_a_quote_provider_needs_leave_as_well() -> None:
    said = refused(pod(epc("app"), quotes="app"))
    assert "is the quote provider and so gets sgx.intel.com/provision" in said
    assert '"team/default"' in said


def test_a_quote_provider_that_is_not_there_is_warned_of() -> None:
    assert "(app)" in warned(pod(epc("app"), container("web"), quotes="web"))


def test_the_quoting_enclaves_device_needs_no_epc() -> None:
    before = pod(container("aesmd", {Resource.QE: "1"}))
    assert mutate(before, TRUSTED, INTEL) == Mutation()


def test_an_enclave_without_epc_is_refused_unless_settings_say_otherwise() -> None:
    before = pod(container("app", {Resource.ENCLAVE: "1"}))
    assert "'app' asks for sgx.intel.com/enclave and for no EPC" in refused(before)
    lax = Policy(epc=INTEL.epc, require_epc=False)
    assert mutate(before, HERE, lax) == Mutation()


def test_limits_and_requests_have_to_agree() -> None:
    before = pod(epc("app"))
    before["spec"]["containers"][0]["resources"]["requests"] = {Resource.EPC_INTEL: "2Mi"}
    assert "'app' has 1Mi of sgx.intel.com/epc as its limit and requests 2Mi" in refused(before)
    before["spec"]["containers"][0]["resources"]["limits"] = {}
    assert "without a limit" in refused(before)


@pytest.mark.parametrize("amount", ["1500m", "-1", "many", "1e99", "9" * 30, "", None, [], True])
def test_amounts_that_are_no_whole_numbers_are_refused(amount: str) -> None:
    assert "'app' asks for sgx.intel.com/epc" in refused(pod(epc("app", amount)))


def test_more_epc_than_can_be_is_refused() -> None:
    before = pod(container("app", {Resource.EPC_ALIBABA: str(1 << 60)}))
    assert "more than there can be" in refused(before)


@pytest.mark.parametrize(
    "spec", [{"containers": {}}, {"containers": [1]}, {"containers": [{"resources": []}]}]
)
def test_what_is_no_pod_is_refused_in_one_sentence(spec: object) -> None:
    result = mutate({"spec": spec}, HERE, INTEL)
    assert isinstance(result, Refusal)
    assert (result.code, "\n" in result.message) == (422, False)


def test_what_was_mutated_is_valid() -> None:
    assert validate(mutated(pod(epc("app"), quotes="aesmd")), HERE, INTEL) == Mutation()


def test_what_another_webhook_adds_later_is_refused_where_it_breaks_the_policy() -> None:
    later = mutated(pod(epc("app")))
    later["spec"]["containers"].append(epc("injected"))
    result = validate(later, HERE, INTEL)
    assert isinstance(result, Refusal)
    assert "/spec/containers/1/resources was changed by another" in result.message
    limits(later)[Resource.PROVISION] = later["spec"]["containers"][0]["resources"]["requests"][
        Resource.PROVISION
    ] = "1"
    assert isinstance(validate(later, HERE, INTEL), Refusal)
