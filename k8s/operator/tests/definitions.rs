//! The definitions in the chart are those of the types. `make chart-golden` writes them anew.

use std::path::Path;

use apogee_operator::crds::definitions;
use serde_json::Value;

#[test]
fn the_chart_has_them() {
    for (file, definition) in definitions() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../helm/crds").join(file);
        if std::env::var_os("CHART_GOLDEN").is_some() {
            std::fs::write(&path, serde_saphyr::to_string(&definition).unwrap()).unwrap();
            continue;
        }
        let there: Value = serde_saphyr::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        assert!(there == definition, "{}: `make chart-golden`", path.display());
    }
}

/// What the API server checks without asking anybody.
#[test]
fn what_cannot_be_changed_is_in_the_definitions() {
    let [(_, topic), (_, group), (_, store_nodes)] = definitions();
    let spec = |definition: &Value| {
        definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"].clone()
    };
    let fixed = |schema: &Value| {
        let rules = schema["x-kubernetes-validations"].as_array().cloned().unwrap_or_default();
        rules.iter().filter_map(|rule| rule["message"].as_str()).any(|message| message.ends_with("cannot be changed"))
    };
    for (definition, own, of_all) in
        [(topic, "messageType", 3), (group, "deliveryOrder", 3), (store_nodes, "statefulSet", 0)]
    {
        let spec = spec(&definition);
        assert!(fixed(&spec["properties"][own]), "{own}");
        let rules = spec["x-kubernetes-validations"].as_array().cloned().unwrap_or_default();
        let transitions = rules.iter().filter(|rule| rule["rule"].as_str().unwrap().contains("oldSelf"));
        assert_eq!(transitions.count(), of_all);
        assert!(definition["spec"]["versions"][0]["subresources"]["status"].is_object());
        assert!(!definition.to_string().contains("uint"), "a format that Kubernetes does not know");
    }
}

/// `kubectl scale` and autoscalers read and write there.
#[test]
fn store_nodes_are_scaled_like_workloads() {
    let [.., (_, definition)] = definitions();
    let version = &definition["spec"]["versions"][0];
    let at = |path: &Value| {
        let mut schema = &version["schema"]["openAPIV3Schema"];
        for field in path.as_str().unwrap().split('.').skip(1) {
            schema = &schema["properties"][field];
        }
        schema["type"].as_str().unwrap_or_default().to_owned()
    };
    let scale = &version["subresources"]["scale"];
    let paths = ["specReplicasPath", "statusReplicasPath", "labelSelectorPath"];
    assert_eq!(paths.map(|path| at(&scale[path])), ["integer", "integer", "string"], "{scale}");
    assert_eq!(definition["spec"]["names"]["shortNames"], serde_json::json!(["sn"]));
}

/// One object that cannot be read would hide all others: what the API server takes fits.
#[test]
fn every_number_people_write_has_bounds_that_fit() {
    fn check(path: &str, schema: &Value) {
        if schema["type"] == "integer" {
            let max = schema["maximum"].as_f64().unwrap_or(f64::INFINITY);
            assert!(schema["minimum"].as_f64() >= Some(0.0) && max <= f64::from(u32::MAX), "{path}: {schema}");
        }
        for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
            check(&format!("{path}.{name}"), schema);
        }
        if schema["items"].is_object() {
            check(&format!("{path}[]"), &schema["items"]);
        }
    }
    for (file, definition) in definitions() {
        let spec = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
        assert!(spec["properties"].as_object().is_some_and(|fields| fields.len() >= 2));
        check(file, spec);
    }
}
