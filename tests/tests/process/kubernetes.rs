//! The manifests: each is what Kubernetes takes, without a field that it does not know, and the graces that they tell the process are
//! the pods' own.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use process_tests::control_plane::command;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Where they are.
const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../cp/kubernetes");

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(dead_code, reason = "some keys are read for their names alone")]
struct Kustomization {
    api_version: String,
    kind: String,
    resources: Vec<PathBuf>,
    #[serde(default)]
    patches: Vec<Patch>,
    #[serde(default)]
    config_map_generator: Vec<Value>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Patch {
    path: PathBuf,
}

fn value(path: &Path) -> Value {
    let text = fs::read_to_string(path).unwrap();
    serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// As the type that its `kind` says, whole; what of it is unknown to Kubernetes.
fn typed<T: DeserializeOwned>(value: &Value) -> (T, Vec<String>) {
    let mut unknown = Vec::new();
    let typed = serde_ignored::deserialize(value, |field| unknown.push(field.to_string().replace(".?", ""))).unwrap();
    (typed, unknown)
}

fn unknown_in(value: &Value) -> Vec<String> {
    match value["kind"].as_str().unwrap_or_default() {
        "Deployment" => typed::<Deployment>(value).1,
        "Job" => typed::<Job>(value).1,
        "NetworkPolicy" => typed::<NetworkPolicy>(value).1,
        "PodDisruptionBudget" => typed::<PodDisruptionBudget>(value).1,
        "Service" => typed::<Service>(value).1,
        kind => vec![format!("kind {kind:?}")],
    }
}

#[test]
fn every_manifest_is_one_that_kubernetes_takes_and_every_file_is_used() {
    let job = concat!(env!("CARGO_MANIFEST_DIR"), "/../sim/explore-job.yaml");
    assert_eq!(unknown_in(&value(Path::new(job))), [""; 0]);
    for folder in ["base", "grace-24h", "grace-30s"].map(|name| Path::new(FOLDER).join(name)) {
        let kustomization: Kustomization = serde_json::from_value(value(&folder.join("kustomization.yaml"))).unwrap();
        let patches = kustomization.patches.into_iter().map(|patch| patch.path);
        let mut used: Vec<PathBuf> = kustomization.resources.into_iter().chain(patches).collect();
        for file in used.iter().map(|file| folder.join(file)).filter(|file| file.is_file()) {
            assert_eq!(unknown_in(&value(&file)), [""; 0], "{}", file.display());
        }
        let there = fs::read_dir(&folder).unwrap().map(|entry| PathBuf::from(entry.unwrap().file_name()));
        let mut there: Vec<PathBuf> = there.filter(|file| file != Path::new("kustomization.yaml")).collect();
        used.retain(|file| !file.starts_with(".."));
        used.sort();
        there.sort();
        assert_eq!(used, there, "{}", folder.display());
    }
}

#[test]
fn a_field_that_kubernetes_does_not_know_is_named() {
    let mut deployment = value(&Path::new(FOLDER).join("base/deployment.yaml"));
    deployment["spec"]["template"]["spec"]["terminationGracePeriod"] = 30.into();
    assert_eq!(unknown_in(&deployment), ["spec.template.spec.terminationGracePeriod"]);
}

/// What the container of a deployment has in its environment, and the pod's grace.
fn environment(deployment: &Value) -> (BTreeMap<String, String>, Option<Duration>) {
    let (deployment, _) = typed::<Deployment>(deployment);
    let pod = deployment.spec.unwrap().template.spec.unwrap();
    let variables = pod.containers[0].env.iter().flatten();
    let environment = variables.map(|one| (one.name.clone(), one.value.clone().unwrap_or_default())).collect();
    let grace = pod.termination_grace_period_seconds.map(|seconds| Duration::from_secs(seconds.try_into().unwrap()));
    (environment, grace)
}

#[test]
fn each_overlay_tells_the_process_its_pods_own_grace_and_makes_a_drain_that_fits_into_it() {
    let (base, none) = environment(&value(&Path::new(FOLDER).join("base/deployment.yaml")));
    assert_eq!(none, None, "the grace is an overlay's");
    for overlay in ["grace-24h", "grace-30s"] {
        let (own, grace) = environment(&value(&Path::new(FOLDER).join(overlay).join("grace.yaml")));
        let told = own["LASTCALL_TERMINATION_GRACE"].parse::<humantime::Duration>().unwrap();
        assert_eq!(Some(*told), grace, "{overlay}");
        let output =
            command().args(["check", "--deny-warnings", "--worker", "postgres:5432"]).envs(&base).envs(&own).output();
        let output = output.unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{overlay}: {said}");
    }
}

#[test]
fn what_a_service_a_probe_or_a_policy_calls_by_name_is_a_port_of_the_container() {
    let base = Path::new(FOLDER).join("base");
    let deployment = value(&base.join("deployment.yaml"));
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    let ports: Vec<&str> =
        container["ports"].as_array().unwrap().iter().filter_map(|port| port["name"].as_str()).collect();
    let service = value(&base.join("service.yaml"));
    let policy = value(&base.join("networkpolicy.yaml"));
    let rules = policy["spec"]["ingress"].as_array().unwrap();
    let mut called = vec![&service["spec"]["ports"][0]["targetPort"]];
    called.extend(rules.iter().map(|rule| &rule["ports"][0]["port"]));
    called.extend(["readinessProbe", "livenessProbe"].map(|probe| &container[probe]["httpGet"]["port"]));
    assert_eq!(called.len(), 5);
    for name in called {
        assert!(ports.contains(&name.as_str().unwrap()), "{name}");
    }
    // Each is about these pods and no others.
    let labels = &deployment["spec"]["template"]["metadata"]["labels"];
    let budget = value(&base.join("poddisruptionbudget.yaml"));
    for selector in [
        &deployment["spec"]["selector"]["matchLabels"],
        &service["spec"]["selector"],
        &budget["spec"]["selector"]["matchLabels"],
        &policy["spec"]["podSelector"]["matchLabels"],
    ] {
        assert_eq!(selector, labels);
    }
    assert!(!service.to_string().contains("admin"), "whoever reaches the admin port can drain the process");
}
