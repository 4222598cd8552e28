//! Which tenant a request of another server is for: what its signature says, else its `Host`. Tenants of this process ask each other here too, without a network.

use std::{
    collections::HashMap,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use axum::{
    Router,
    extract::{Request, State},
    response::Response,
};
use federation::{
    connection::InProcess,
    inbound::{destination, nobody_here, unavailable},
};
use parking_lot::RwLock;
use ruma::{OwnedServerName, ServerName};
use tower::ServiceExt as _;

use crate::tenants::Tenants;

/// The tenants, as other servers reach them.
pub(in crate::server) struct Gateway {
    myself: Weak<Self>,
    tenants: OnceLock<Tenants>,
    /// What answers for those that are open.
    routers: RwLock<HashMap<OwnedServerName, Router>>,
    is_closed: AtomicBool,
}

impl Gateway {
    pub(super) fn new() -> Arc<Self> {
        Arc::new_cyclic(|myself| Self {
            myself: Weak::clone(myself),
            tenants: OnceLock::new(),
            routers: RwLock::default(),
            is_closed: AtomicBool::new(false),
        })
    }

    /// Begins to answer for these tenants.
    pub(in crate::server) fn serve(&self, tenants: Tenants) {
        self.tenants.set(tenants).ok();
    }

    /// Answers nobody any more: no tenant is opened again.
    pub(in crate::server) fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
    }

    /// A tenant is open.
    pub(super) fn open(&self, name: &ServerName, router: Router) {
        self.routers.write().insert(name.to_owned(), router);
    }

    /// A tenant is about to be closed.
    pub(super) fn shut(&self, name: &ServerName) {
        self.routers.write().remove(name);
    }

    /// What answers for all tenants.
    pub(in crate::server) fn router(self: &Arc<Self>) -> Router {
        Router::new().fallback(answer).with_state(Arc::clone(self))
    }
}

impl InProcess for Gateway {
    fn router(&self, server: &ServerName) -> Option<Router> {
        let is_ours = self.tenants.get()?.all().any(|(tenant, _)| tenant.server_name == server);
        self.myself.upgrade().filter(|_| is_ours).map(|gateway| gateway.router())
    }
}

async fn answer(State(gateway): State<Arc<Gateway>>, request: Request) -> Response {
    if gateway.is_closed.load(Ordering::Acquire) {
        return unavailable();
    }
    let name = destination(request.headers(), request.uri());
    let tenant = name.as_deref().and_then(|name| gateway.tenants.get()?.of_server(name));
    let Some(tenant) = tenant else { return nobody_here() };
    // Kept until the answer begins: a tenant that is asked is not idle.
    let Ok(_actions) = tenant.actions().await else { return unavailable() };
    let router = gateway.routers.read().get(&tenant.config.server_name).cloned();
    let Some(router) = router else { return unavailable() };
    let Ok(response) = router.oneshot(request).await;
    response
}
