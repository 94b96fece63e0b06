//! The routes, and what every request passes before and after them.

use crate::record::Record;
use crate::rest;
use crate::segment;
use crate::service::Service;
use crate::trouble::{Kind, Outcome, Trouble};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{MatchedPath, State};
use axum::http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Version, header,
};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::Limited;
use std::hash::{BuildHasher, RandomState};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use subtle::ConstantTimeEq;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{NotForContentType, Predicate, SizeAbove};
use tower_http::decompression::RequestDecompressionLayer;

/// The page for people.
const PAGE: &str = include_str!("../page/index.html");
/// The description of the routes.
pub const OPENAPI: &str = include_str!("../openapi.json");

/// The identity of a request, echoed in the answer.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACE_PARENT: &str = "traceparent";

/// Who has connected, for the log.
#[derive(Clone, Debug)]
pub struct Peer(pub Arc<str>);

/// All routes of `service`.
pub fn router(service: &Arc<Service>) -> Router {
    // An answer is compressed if the client asks, and if it is not a picture, which is already.
    let compressed = SizeAbove::new(1024)
        .and(NotForContentType::const_new("image/"))
        .and(NotForContentType::GRPC);
    let most = service.limits().body_bytes;
    let mut routes = Router::new();
    for (path, methods) in table() {
        routes = routes.route(path, methods);
    }
    routes
        .method_not_allowed_fallback(wrong_method)
        .fallback(not_found)
        .layer(CompressionLayer::new().compress_when(compressed))
        .layer(RequestDecompressionLayer::new())
        .layer(from_fn(move |request: Request<Body>, next: Next| {
            // The limit of what is received; `body` has that of what is unpacked.
            next.run(request.map(|body| Body::new(Limited::new(body, most))))
        }))
        .with_state(service.clone())
        .merge(crate::grpc::routes(service))
        .layer(from_fn_with_state(service.clone(), guard))
        .layer(from_fn_with_state(service.clone(), watch))
        .layer(from_fn(close_unread))
}

/// The paths of the HTTP routes. openapi.json has the same.
fn table() -> Vec<(&'static str, MethodRouter<Arc<Service>>)> {
    vec![
        ("/", get(page)),
        ("/segment", post(segment::segment)),
        ("/openapi.json", get(openapi)),
        ("/metrics", get(metrics)),
        ("/v2", get(rest::server)),
        ("/v2/", get(rest::server)),
        ("/v2/health/live", get(rest::live)),
        ("/v2/health/ready", get(rest::ready)),
        ("/v2/models", get(rest::models)),
        ("/v2/models/stats", get(rest::all_statistics)),
        ("/v2/models/{model}", get(rest::model)),
        ("/v2/models/{model}/ready", get(rest::model_ready)),
        ("/v2/models/{model}/stats", get(rest::statistics)),
        ("/v2/models/{model}/infer", post(rest::infer)),
        ("/v2/models/{model}/versions/{version}", get(rest::model)),
        (
            "/v2/models/{model}/versions/{version}/ready",
            get(rest::model_ready),
        ),
        (
            "/v2/models/{model}/versions/{version}/stats",
            get(rest::statistics),
        ),
        (
            "/v2/models/{model}/versions/{version}/infer",
            post(rest::infer),
        ),
        ("/v2/repository/index", post(rest::repository_index)),
        (
            "/v2/repository/models/{model}/load",
            post(rest::repository_load),
        ),
        (
            "/v2/repository/models/{model}/unload",
            post(rest::repository_unload),
        ),
    ]
}

async fn page() -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src 'self' blob: data:; \
             connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        ),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, PAGE).into_response()
}

async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI).into_response()
}

async fn metrics(State(service): State<Arc<Service>>) -> Response {
    let text = service.shared.metrics.text(&service.shared);
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}

async fn not_found(request: Request<Body>) -> Trouble {
    let text = format!(
        "there is no {}; /openapi.json lists what there is",
        request.uri().path()
    );
    Trouble::new(Kind::NotFound, text)
}

async fn wrong_method(request: Request<Body>) -> Trouble {
    let text = format!(
        "{} does not take {}",
        request.uri().path(),
        request.method()
    );
    Trouble::new(Kind::Method, text)
}

/// Lets a request pass if its origin and its token allow it.
async fn guard(
    State(service): State<Arc<Service>>,
    request: Request<Body>,
    next: Next,
) -> Response {
    let origin = request.headers().get(header::ORIGIN).cloned();
    let is_foreign = origin
        .as_ref()
        .is_some_and(|origin| !is_own(origin, request.headers()));
    let allowed = match (&origin, is_foreign) {
        (Some(origin), true) => match allowed_origin(&service, origin) {
            Some(allowed) => Some(allowed),
            None => {
                let text = format!(
                    "pages of {origin:?} may not send requests; the server's flag --cors-origin allows them"
                );
                return Trouble::new(Kind::Forbidden, text).into_response();
            }
        },
        _ => None,
    };
    let mut response = if allowed.is_some() && request.method() == Method::OPTIONS {
        StatusCode::NO_CONTENT.into_response()
    } else if let Err(trouble) = check_token(&service, &request) {
        crate::grpc::or_http(&request, trouble)
    } else {
        next.run(request).await
    };
    if let Some(origin) = allowed {
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::VARY, HeaderValue::from_static("origin"));
        for (name, value) in [
            (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST"),
            (header::ACCESS_CONTROL_ALLOW_HEADERS, "*, authorization"),
            (header::ACCESS_CONTROL_EXPOSE_HEADERS, "*"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
    }
    response
}

/// Whether `origin` is the server itself, as the client calls it.
fn is_own(origin: &HeaderValue, headers: &HeaderMap) -> bool {
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    let origin = origin
        .to_str()
        .ok()
        .and_then(|origin| origin.split_once("://"));
    matches!((host, origin), (Some(host), Some((_, origin))) if host == origin)
}

fn allowed_origin(service: &Service, origin: &HeaderValue) -> Option<HeaderValue> {
    let text = origin.to_str().ok()?;
    let origins = &service.config.origins;
    let is_allowed = origins
        .iter()
        .any(|allowed| allowed == "*" || allowed == text);
    is_allowed.then(|| origin.clone())
}

/// An error unless the request bears a token, if the server wants one. Health, the page and its description are for
/// everybody.
fn check_token(service: &Service, request: &Request<Body>) -> Outcome<()> {
    let path = request.uri().path();
    let is_open = ["/", "/openapi.json"].contains(&path)
        || path.starts_with("/v2/health/")
        || path.starts_with("/grpc.health.v1.Health/");
    if service.config.tokens.is_empty() || is_open {
        return Ok(());
    }
    let header = request.headers().get(header::AUTHORIZATION);
    let token = header.and_then(|header| header.as_bytes().strip_prefix(b"Bearer "));
    let token = token.unwrap_or_default();
    // Every token is compared, and each takes the same time whether it differs early or late.
    let fits = |known: &String| known.as_bytes().ct_eq(token);
    let known = service.config.tokens.iter().map(fits);
    match bool::from(known.fold(subtle::Choice::from(0), |any, one| any | one)) {
        true => Ok(()),
        false => Err(Trouble::new(
            Kind::Unauthenticated,
            "the request needs a token: the header Authorization: Bearer TOKEN",
        )),
    }
}

/// Records and logs a request.
async fn watch(
    State(service): State<Arc<Service>>,
    mut request: Request<Body>,
    next: Next,
) -> Response {
    let path = request.uri().path();
    let protocol = match path {
        "/segment" => Some("segment"),
        _ if path.starts_with("/v2/models/") && path.ends_with("/infer") => Some("oip_rest"),
        _ if path.ends_with("/ModelInfer") => Some("oip_grpc"),
        _ => None,
    };
    let record = Record::begin(protocol.unwrap_or("other"));
    let mut line = Line {
        service,
        record: record.clone(),
        is_for_results: protocol.is_some(),
        id: request_id(request.headers()),
        trace: trace_id(request.headers()),
        method: request.method().clone(),
        path: request
            .extensions()
            .get::<MatchedPath>()
            .map_or_else(|| path.to_owned(), |matched| matched.as_str().to_owned()),
        peer: request
            .extensions()
            .get::<Peer>()
            .map(|peer| peer.0.clone()),
        status: None,
    };
    request.extensions_mut().insert(record.clone());
    let mut response = next.run(request).await;
    if !record.has_failed() {
        note_status(&record, response.status());
    }
    line.status = Some(response.status());
    if let Ok(id) = HeaderValue::from_str(&line.id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}

/// Says to a client of HTTP/1 that its connection ends if the request's body was not read to its end: what is left of it
/// stands before the next request, so the connection is closed. Without the header, the client's next request would fail.
async fn close_unread(request: Request<Body>, next: Next) -> Response {
    let is_shared = request.version() >= Version::HTTP_2;
    let is_read = Arc::new(AtomicBool::new(request.body().is_end_stream()));
    let seen = is_read.clone();
    let request = request.map(|body| {
        Body::new(Seen {
            body,
            is_read: seen,
        })
    });
    let mut response = next.run(request).await;
    if !is_shared && !is_read.load(Ordering::Relaxed) {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
    }
    response
}

/// A body that notes when it was read to its end.
struct Seen {
    body: Body,
    is_read: Arc<AtomicBool>,
}

impl HttpBody for Seen {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if matches!(polled, Poll::Ready(None)) || self.body.is_end_stream() {
            self.is_read.store(true, Ordering::Relaxed);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Notes the failure that a status stands for.
fn note_status(record: &Record, status: StatusCode) {
    let kinds = [
        Kind::Invalid,
        Kind::MediaType,
        Kind::TooLarge,
        Kind::Unauthenticated,
        Kind::Forbidden,
        Kind::NotFound,
        Kind::Method,
        Kind::SlowBody,
        Kind::Full,
        Kind::Unavailable,
        Kind::Deadline,
        Kind::Internal,
    ];
    if let Some(kind) = kinds.into_iter().find(|kind| kind.status() == status) {
        record.fail(kind);
    }
}

/// The client's identity of the request, or one of ours.
fn request_id(headers: &HeaderMap) -> String {
    let given = headers.get(REQUEST_ID).and_then(|id| id.to_str().ok());
    let is_sane = |id: &&str| !id.is_empty() && id.len() <= 128;
    match given.filter(is_sane) {
        Some(id) => id.to_owned(),
        None => {
            let random = || RandomState::new().hash_one(0);
            format!("{:016x}{:016x}", random(), random())
        }
    }
}

/// The trace of the header `traceparent`, if it is well formed.
fn trace_id(headers: &HeaderMap) -> Option<String> {
    let parent = headers.get(TRACE_PARENT)?.to_str().ok()?;
    let parts: Vec<_> = parent.split('-').collect();
    let is_hex = |text: &str| {
        text.bytes()
            .all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase())
    };
    let lengths = parts.iter().map(|part| part.len());
    let is_right = lengths.eq([2, 32, 16, 2]) && parts.iter().all(|part| is_hex(part));
    (is_right && parts[1] != "0".repeat(32)).then(|| parts[1].to_owned())
}

/// The log line of a request, written when the request ends, or when the client has gone.
struct Line {
    service: Arc<Service>,
    record: Record,
    is_for_results: bool,
    id: String,
    trace: Option<String>,
    method: Method,
    path: String,
    peer: Option<Arc<str>>,
    status: Option<StatusCode>,
}

impl Drop for Line {
    fn drop(&mut self) {
        if self.status.is_none() {
            self.record.fail(Kind::Cancelled);
        }
        let report = self.record.report();
        if self.is_for_results {
            self.service.shared.metrics.request(&report);
        }
        let ms = |time: Duration| (time.as_secs_f64() * 1e5).round() / 1e2;
        let (height, width) = report.size.unwrap_or_default();
        let status = self.status.map_or(0, |status| status.as_u16());
        macro_rules! line {
            ($level:expr) => {
                tracing::event!(
                    target: "fullconv_serve::request",
                    $level,
                    id = self.id,
                    trace_id = self.trace.as_deref().unwrap_or(""),
                    method = %self.method,
                    path = self.path,
                    status,
                    outcome = report.outcome,
                    model = report.model,
                    pictures = report.pictures,
                    width,
                    height,
                    ms = ms(report.all),
                    decode_ms = ms(report.stages.decode),
                    queue_ms = ms(report.stages.queue),
                    device_ms = ms(report.stages.device),
                    encode_ms = ms(report.stages.encode),
                    peer = self.peer.as_deref().unwrap_or(""),
                )
            };
        }
        match self.is_for_results {
            true => line!(tracing::Level::INFO),
            // Probes come every few seconds.
            false => line!(tracing::Level::DEBUG),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;
    use std::collections::BTreeSet;

    #[test]
    fn openapi_describes_every_route() {
        let described: Value = serde_json::from_str(OPENAPI).unwrap();
        let described = described["paths"].as_object().unwrap().keys().cloned();
        let described: BTreeSet<_> = described.collect();
        let routes = table().into_iter().map(|(path, _)| path.to_owned());
        // `/v2/` is `/v2` for clients that write it so.
        let routes: BTreeSet<_> = routes.filter(|path| path != "/v2/").collect();
        assert_eq!(described, routes);
    }

    #[test]
    fn traces_are_read() {
        let of = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(TRACE_PARENT, HeaderValue::from_static(text));
            trace_id(&headers)
        };
        let id = "0af7651916cd43dd8448eb211c80319c";
        let right = of("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
        assert_eq!(right.as_deref(), Some(id));
        for wrong in [
            "",
            "00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333-001",
        ] {
            assert_eq!(of(wrong), None, "{wrong}");
        }
    }
}
