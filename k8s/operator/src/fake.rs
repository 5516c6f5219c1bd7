//! An API server of JSON objects in memory, for tests: versions, uids, merge patches, status and scale apart from the rest.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use http::{Method, Request, Response};
use http_body_util::BodyExt as _;
use kube::Client;
use kube::client::Body;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// A code, and what is answered with it.
pub(crate) type Refusing = (u16, fn(&Method, &str) -> bool);

/// Clones are the same one.
#[derive(Clone, Default)]
pub(crate) struct FakeApi {
    state: Arc<Mutex<State>>,
    refuses: Arc<Mutex<Option<Refusing>>>,
}

#[derive(Default)]
struct State {
    version: u64,
    /// By path.
    objects: BTreeMap<String, Value>,
}

impl FakeApi {
    /// The same objects, for somebody else who is refused other things.
    pub(crate) fn beside(&self) -> FakeApi {
        FakeApi { state: Arc::clone(&self.state), refuses: Arc::default() }
    }

    /// Asks this one.
    pub(crate) fn client(&self) -> Client {
        let api = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let api = api.clone();
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect().await.map_err(|error| error.to_string())?.to_bytes();
                let (code, answer) = api.answer(&head.method, head.uri.path(), &body);
                let answer = Body::from(serde_json::to_vec(&answer).map_err(|error| error.to_string())?);
                Response::builder().status(code).body(answer).map_err(|error| error.to_string())
            }
        });
        Client::new(service, "queues")
    }

    /// As somebody with kubectl.
    pub(crate) fn put<K: Serialize + DeserializeOwned>(&self, path: &str, object: &K) -> K {
        let mut object = serde_json::to_value(object).expect("an object is JSON");
        let mut state = self.state();
        let known = state.objects.get(path).cloned();
        let generation = known.as_ref().map_or(1, |known| known["metadata"]["generation"].as_i64().unwrap_or(1) + 1);
        object["metadata"]["generation"] = generation.into();
        object["metadata"]["uid"] =
            known.map_or_else(|| format!("uid of {path}").into(), |known| known["metadata"]["uid"].clone());
        let stored = state.store(path, object);
        serde_json::from_value(stored).expect("as it was given")
    }

    /// As somebody with kubectl.
    pub(crate) fn remove(&self, path: &str) {
        self.state().objects.remove(path);
    }

    pub(crate) fn get<K: DeserializeOwned>(&self, path: &str) -> Option<K> {
        let object = self.state().objects.get(path).cloned()?;
        Some(serde_json::from_value(object).expect("as it was given"))
    }

    /// The reasons of all events, in no order.
    pub(crate) fn events(&self) -> Vec<String> {
        let state = self.state();
        let events = state.objects.iter().filter(|(path, _)| path.contains("/events/"));
        events.map(|(_, event)| event["reason"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// From now on, by method and path; `None` for nothing.
    pub(crate) fn refuse(&self, what: Option<Refusing>) {
        *self.refuses.lock().expect("no test panics inside") = what;
    }

    fn answer(&self, method: &Method, path: &str, body: &[u8]) -> (u16, Value) {
        let refusing = *self.refuses.lock().expect("no test panics inside");
        if let Some((code, refuses)) = refusing
            && refuses(method, path)
        {
            return failure(code, "refused by the test");
        }
        let mut state = self.state();
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        if *method == Method::POST {
            let path = format!("{path}/{}", body["metadata"]["name"].as_str().unwrap_or_default());
            return if state.objects.contains_key(&path) {
                failure(409, "it is there")
            } else {
                (201, state.store(&path, body))
            };
        }
        if *method == Method::GET && path.ends_with("/pods") {
            return (200, state.list(path));
        }
        let parts = [("/status", "status"), ("/scale", "spec")];
        let part = parts.iter().find_map(|(end, part)| Some((path.strip_suffix(end)?, *part)));
        let (whole, part) = part.unwrap_or((path, "metadata"));
        let Some(mut known) = state.objects.get(whole).cloned() else { return failure(404, "there is none") };
        if *method == Method::GET {
            return (200, known);
        }
        for key in ["resourceVersion", "uid"] {
            let given = &body["metadata"][key];
            if !given.is_null() && *given != known["metadata"][key] {
                return failure(409, "it is another one");
            }
        }
        if *method == Method::PATCH {
            merge(&mut known[part], &body[part]);
        } else {
            known = body;
        }
        let gone = !known["metadata"]["deletionTimestamp"].is_null() && known["metadata"]["finalizers"] == json!([]);
        let stored = state.store(whole, known);
        if gone {
            state.objects.remove(whole);
        }
        if path.ends_with("/scale") {
            return (
                200,
                json!({ "kind": "Scale", "metadata": {}, "spec": { "replicas": stored["spec"]["replicas"] } }),
            );
        }
        (200, stored)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panics inside")
    }
}

impl State {
    /// Whatever the selector says.
    fn list(&self, path: &str) -> Value {
        let inside = |name: &str| name.strip_prefix(path).is_some_and(|rest| rest.starts_with('/'));
        let items: Vec<&Value> =
            self.objects.iter().filter(|(name, _)| inside(name)).map(|(_, object)| object).collect();
        json!({ "kind": "List", "metadata": {}, "items": items })
    }

    fn store(&mut self, path: &str, mut object: Value) -> Value {
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        self.objects.insert(path.to_owned(), object.clone());
        object
    }
}

fn failure(code: u16, message: &str) -> (u16, Value) {
    let reason = match code {
        403 => "Forbidden",
        404 => "NotFound",
        409 => "Conflict",
        _ => "",
    };
    (code, json!({ "kind": "Status", "status": "Failure", "code": code, "message": message, "reason": reason }))
}

/// RFC 7396.
fn merge(into: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        *into = patch.clone();
        return;
    };
    if !into.is_object() {
        *into = json!({});
    }
    for (key, value) in fields {
        if value.is_null() {
            into.as_object_mut().expect("it is one").remove(key);
        } else {
            merge(&mut into[key], value);
        }
    }
}
