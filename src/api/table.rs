//! From the URL table of a dialect to its router: what all dialects do alike with it.

use axum::{Router, extract::FromRef, routing::MethodRouter};

use super::{
    ApiState, Dialect,
    error::{Problem, ProblemKind},
};

/// The calls of a dialect: method, path and handler of each.
pub(super) type Table<D> = Vec<(&'static str, &'static str, MethodRouter<D>)>;

impl<D: Dialect> FromRef<D> for ApiState {
    fn from_ref(dialect: &D) -> Self {
        dialect.state().clone()
    }
}

/// Method and path of every call.
pub(super) fn routes<D>(table: Table<D>) -> Vec<(&'static str, &'static str)> {
    table.into_iter().map(|(method, path, _)| (method, path)).collect()
}

/// The router of a dialect; what it does not know is refused in its words.
pub(super) fn router<D: Dialect>(table: Table<D>) -> Router<D> {
    let routed = table.into_iter().fold(Router::new(), |router, (_, path, handler)| router.route(path, handler));
    routed.fallback(route_not_found::<D>).method_not_allowed_fallback(method_not_allowed::<D>)
}

/// The answer to a path that does not exist.
async fn route_not_found<D: Dialect>() -> D::Refusal {
    Problem::new(ProblemKind::RouteNotFound, D::NO_SUCH_PATH).into()
}

/// The answer to a path that exists with other methods; they stand in `Allow`.
async fn method_not_allowed<D: Dialect>() -> D::Refusal {
    Problem::new(ProblemKind::MethodNotAllowed, D::NO_SUCH_METHOD).into()
}
