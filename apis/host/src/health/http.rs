//! The two small HTTP servers of every role.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;
use tokio::net::TcpListener;

use super::{Health, Report};
use crate::identity::Identity;
use crate::tasks::{OnError, Tasks};
use crate::telemetry::Metrics;

/// `/livez`, `/readyz`, `/startupz` and `/version`, for port 8086. Starts the watchdog that `/livez` asks.
pub fn health_routes(health: Health, identity: &Identity, tasks: &Tasks) -> Router {
    tasks.spawn("watchdog", OnError::StopProcess, health.watchdog.clone().run(tasks.token()));
    let version = json!({"role": identity.role, "version": identity.version});
    Router::new()
        .route("/livez", get(async |State(health): State<Health>| health.liveness()))
        .route("/readyz", get(async |State(health): State<Health>| health.readiness()))
        .route("/startupz", get(async |State(health): State<Health>| health.startup()))
        .route("/version", get(async move || Json(version)))
        .with_state(health)
}

/// `/metrics`, for port 5557.
pub fn metrics_routes(metrics: Metrics) -> Router {
    let render = async |State(metrics): State<Metrics>| {
        ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], metrics.render())
    };
    Router::new().route("/metrics", get(render)).with_state(metrics)
}

/// Answers on `listener` until `tasks` close, so that probes and scrapes see the whole drain.
pub fn serve(tasks: &Tasks, name: &'static str, listener: TcpListener, routes: Router) {
    let stop = tasks.token();
    tasks.spawn(name, OnError::StopProcess, async move {
        let serving = axum::serve(listener, routes).into_future();
        stop.run_until_cancelled(serving).await.unwrap_or(Ok(()))
    });
}

impl IntoResponse for Report {
    fn into_response(self) -> Response {
        let code = if self.status == "ok" { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        (code, Json(self)).into_response()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use serde_json::Value;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tower::ServiceExt;

    use super::super::Check;
    use super::*;

    fn identity() -> Identity {
        Identity {
            cluster: "c1".to_owned(),
            role: "proxy",
            node_type: "proxy",
            node: "proxy-0".to_owned(),
            version: "1.2.3",
        }
    }

    async fn ask(routes: &Router, path: &str) -> (u16, String) {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = routes.clone().oneshot(request).await.unwrap();
        let (status, body) = (response.status().as_u16(), response.into_body());
        (status, String::from_utf8(to_bytes(body, 1 << 20).await.unwrap().to_vec()).unwrap())
    }

    async fn check(routes: &Router, path: &str, status: u16, body: Value) {
        let (got_status, got_body) = ask(routes, path).await;
        assert_eq!((got_status, serde_json::from_str::<Value>(&got_body).unwrap()), (status, body));
    }

    #[tokio::test(start_paused = true)]
    async fn probes_answer_in_json() {
        let (health, tasks) = (Health::new(&["listeners"]), Tasks::new());
        let routes = health_routes(health.clone(), &identity(), &tasks);
        let starting = json!({"name": "listeners", "ok": false, "detail": "starting"});
        check(&routes, "/readyz", 503, json!({"status": "fail", "checks": [starting]})).await;
        let waiting = json!({"name": "started", "ok": false, "detail": "waiting for listeners"});
        check(&routes, "/startupz", 503, json!({"status": "fail", "checks": [waiting]})).await;

        health.set("listeners", Check::ok());
        let listeners = json!({"name": "listeners", "ok": true, "detail": ""});
        check(&routes, "/readyz", 200, json!({"status": "ok", "checks": [listeners.clone()]})).await;
        assert_eq!(ask(&routes, "/startupz").await.0, 200);
        assert_eq!(ask(&routes, "/livez").await.0, 200);
        check(&routes, "/version", 200, json!({"role": "proxy", "version": "1.2.3"})).await;

        health.start_draining();
        let draining = json!({"name": "serving", "ok": false, "detail": "draining"});
        check(&routes, "/readyz", 503, json!({"status": "fail", "checks": [listeners, draining]})).await;
        assert_eq!(ask(&routes, "/livez").await.0, 200);
    }

    #[tokio::test]
    async fn metrics_are_text() {
        let routes = metrics_routes(Metrics::new(&identity()).unwrap());
        let (status, body) = ask(&routes, "/metrics").await;
        assert_eq!(status, 200);
        assert!(body.contains("apogee_build_info{"), "{body}");
    }

    #[tokio::test]
    async fn the_server_listens_and_ends_with_its_tasks() {
        let tasks = Tasks::new();
        let listener = crate::net::listen(([127, 0, 0, 1], 0).into()).unwrap();
        let addr = listener.local_addr().unwrap();
        serve(&tasks, "health-http", listener, health_routes(Health::new(&[]), &identity(), &tasks));
        let mut stream = tokio::net::TcpStream::connect(addr).await.unwrap();
        stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
        assert!(tasks.close(Duration::from_secs(10)).await.is_empty());
    }
}
