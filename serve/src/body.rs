//! The body of a request, within its limits.

use crate::service::{BodyShare, Service};
use crate::trouble::{Kind, Outcome, Trouble};
use axum::body::Body;
use axum::http::{HeaderMap, header};
use bytes::{Bytes, BytesMut};
use http_body::Frame;
use http_body_util::BodyExt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// A body in memory.
#[derive(Debug)]
pub struct Received {
    /// Its bytes.
    pub bytes: Bytes,
    /// Held as long as the bytes.
    pub share: BodyShare,
}

/// Receives `body`.
///
/// # Errors
/// `TooLarge` if it is longer than a body may be, `SlowBody` if it does not arrive in time, `Full` if other bodies take
/// the memory, `Invalid` if it is not compressed as its header says or breaks off.
pub async fn receive(service: &Arc<Service>, headers: &HeaderMap, body: Body) -> Outcome<Received> {
    check_length(service, headers)?;
    let time = service.limits().body_time;
    match tokio::time::timeout(time, collect(service, body)).await {
        Ok(received) => received,
        Err(_) => {
            let text = format!("the body did not arrive within {} s", time.as_secs());
            Err(Trouble::new(Kind::SlowBody, text))
        }
    }
}

/// An error if the header says that the body is too long.
///
/// # Errors
/// `TooLarge`.
pub fn check_length(service: &Service, headers: &HeaderMap) -> Outcome<()> {
    let most = service.limits().body_bytes;
    let length = headers.get(header::CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    match length {
        Some(length) if length > most as u64 => Err(too_long(most)),
        _ => Ok(()),
    }
}

async fn collect(service: &Arc<Service>, mut body: Body) -> Outcome<Received> {
    let most = service.limits().body_bytes;
    let mut share = service.body_share();
    let (mut first, mut bytes) = (None, BytesMut::new());
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| broken(most, &error))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        share.add(data.len())?;
        if bytes.len() + data.len() + first.as_ref().map_or(0, Bytes::len) > most {
            return Err(too_long(most));
        }
        // A body that comes in one piece is not copied.
        match (first.take(), bytes.is_empty()) {
            (None, true) => first = Some(data),
            (before, _) => {
                bytes.extend(before.unwrap_or_default());
                bytes.extend(data);
            }
        }
    }
    let bytes = first.unwrap_or_else(|| bytes.freeze());
    Ok(Received { bytes, share })
}

fn too_long(most: usize) -> Trouble {
    let text = format!("the body is longer than {most} bytes, which the server takes at most");
    Trouble::new(Kind::TooLarge, text)
}

/// The failure of a body that breaks off, is not compressed as it says, or is too long before it is decompressed.
pub fn broken(most: usize, error: &(dyn std::error::Error + 'static)) -> Trouble {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.is::<http_body_util::LengthLimitError>() {
            return too_long(most);
        }
        cause = error.source();
    }
    Trouble::invalid(format!("the body cannot be read: {error}"))
}

/// `body`, counted among the bodies in memory until it is read.
pub fn counted(service: &Arc<Service>, body: Body) -> Body {
    Body::new(Counted {
        body,
        share: service.body_share(),
    })
}

struct Counted {
    body: Body,
    share: BodyShare,
}

impl http_body::Body for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if let Some(Ok(frame)) = &frame {
            let length = frame.data_ref().map_or(0, Bytes::len);
            if let Err(trouble) = self.share.add(length) {
                return Poll::Ready(Some(Err(axum::Error::new(trouble.message))));
            }
        }
        Poll::Ready(frame)
    }
}
