//! Liveness and readiness.

use serde_json::json;

use crate::client::server;

#[tokio::test]
async fn health_and_readiness_answer_without_a_token() {
    let server = server().await;
    for path in ["/healthz", "/readyz"] {
        assert_eq!(server.nameless().get(path).await.ok(), json!({"status": "ok"}));
    }
}

#[tokio::test]
async fn health_answers_whatever_the_host_is() {
    let server = server().await;
    server.nameless().with_header("host", "10.0.0.1:8080").get("/healthz").await.ok();
}
