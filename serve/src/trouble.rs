//! How a request fails, and what each protocol says of it.

use axum::http::StatusCode;
use fullconv::ErrorKind;
use std::fmt;
use std::time::Duration;
use tonic::Code;

/// The kind of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The request is wrong.
    Invalid,
    /// The body is no picture that is read.
    MediaType,
    /// A body or a picture is beyond a limit.
    TooLarge,
    /// The token is missing or wrong.
    Unauthenticated,
    /// The request is allowed to nobody here.
    Forbidden,
    /// There is no such model, version or route.
    NotFound,
    /// The route has other methods.
    Method,
    /// The body did not arrive in time.
    SlowBody,
    /// The queue is full.
    Full,
    /// The server drains, loads or recovers.
    Unavailable,
    /// The time is over.
    Deadline,
    /// The client has gone.
    Cancelled,
    /// The server is at fault.
    Internal,
}

impl Kind {
    /// The HTTP status.
    pub fn status(self) -> StatusCode {
        match self {
            Self::Invalid => StatusCode::BAD_REQUEST,
            Self::MediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Unauthenticated => StatusCode::UNAUTHORIZED,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::SlowBody => StatusCode::REQUEST_TIMEOUT,
            Self::Full => StatusCode::TOO_MANY_REQUESTS,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::Deadline => StatusCode::GATEWAY_TIMEOUT,
            Self::Cancelled | Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The gRPC code. Clients try again at once at `Unavailable`: a full queue is `ResourceExhausted`.
    pub fn code(self) -> Code {
        match self {
            Self::Invalid | Self::MediaType | Self::TooLarge => Code::InvalidArgument,
            Self::Unauthenticated => Code::Unauthenticated,
            Self::Forbidden => Code::PermissionDenied,
            Self::NotFound => Code::NotFound,
            Self::Method => Code::Unimplemented,
            Self::SlowBody | Self::Deadline => Code::DeadlineExceeded,
            Self::Full => Code::ResourceExhausted,
            Self::Unavailable => Code::Unavailable,
            Self::Cancelled => Code::Cancelled,
            Self::Internal => Code::Internal,
        }
    }

    /// The word of metrics and logs.
    pub fn outcome(self) -> &'static str {
        match self {
            Self::Invalid | Self::MediaType | Self::Method => "invalid",
            Self::TooLarge => "too_large",
            Self::Unauthenticated | Self::Forbidden => "refused",
            Self::NotFound => "not_found",
            Self::SlowBody => "slow_body",
            Self::Full => "queue_full",
            Self::Unavailable => "unavailable",
            Self::Deadline => "deadline",
            Self::Cancelled => "cancelled",
            Self::Internal => "internal",
        }
    }
}

/// A failure.
#[derive(Clone, Debug)]
pub struct Trouble {
    /// Its kind.
    pub kind: Kind,
    /// One line for the person who meets it.
    pub message: String,
    /// When to try again.
    pub retry_after: Option<Duration>,
}

/// `Result` with a [`Trouble`].
pub type Outcome<T> = Result<T, Trouble>;

impl Trouble {
    /// A failure of `kind`.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            retry_after: None,
        }
    }

    /// A request that is wrong.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Kind::Invalid, message)
    }

    /// The same, to be tried again after `time`.
    pub fn retry_after(self, time: Duration) -> Self {
        Self {
            retry_after: Some(time),
            ..self
        }
    }

    /// The same, of `place`.
    pub fn at(mut self, place: impl fmt::Display) -> Self {
        self.message = format!("{place}: {}", self.message);
        self
    }

    /// The whole seconds for the header `Retry-After`.
    pub fn retry_after_seconds(&self) -> Option<u64> {
        self.retry_after
            .map(|time| time.as_secs() + u64::from(time.subsec_nanos() > 0))
    }
}

impl From<fullconv::Error> for Trouble {
    fn from(error: fullconv::Error) -> Self {
        let kind = match error.kind() {
            ErrorKind::Picture | ErrorKind::Shape | ErrorKind::Request | ErrorKind::Unsupported => {
                Kind::Invalid
            }
            ErrorKind::Limit => Kind::TooLarge,
            ErrorKind::DeviceLost | ErrorKind::NoAdapter => Kind::Unavailable,
            _ => Kind::Internal,
        };
        Self::new(kind, error.to_string())
    }
}
