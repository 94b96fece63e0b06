//! Sockets and connections, with the timers and bounds that a server in the open needs.

use crate::config::{Address, Limits};
use crate::routes::Peer;
use axum::Router;
use axum::body::Body;
use axum::http::Request;
use fullconv::{Error, ErrorKind, Result};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Semaphore, watch};
use tokio_io_timeout::TimeoutStream;
use tower::ServiceExt;

/// The most bytes of a request's header.
const HEADER_BYTES: usize = 64 << 10;
/// The most requests of a connection at a time.
const STREAMS: u32 = 64;
/// The time between pings of a connection with HTTP/2, and for their answer.
const PING: Duration = Duration::from_secs(20);
/// The pause after a connection that could not be accepted: there may be no file descriptor left.
const PAUSE: Duration = Duration::from_millis(50);

/// A socket that is listened on.
#[derive(Debug)]
pub struct Socket {
    listener: Listener,
    address: Address,
}

#[derive(Debug)]
enum Listener {
    Tcp(TcpListener),
    /// With the path to remove at the end, if it is ours.
    Unix(UnixListener, Option<Unlink>),
}

/// Removes a socket's file at the end.
#[derive(Debug)]
struct Unlink(PathBuf);

impl Drop for Unlink {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Socket {
    /// The address, with the port that was found for port 0.
    pub fn address(&self) -> &Address {
        &self.address
    }
}

/// Listens on `addresses`, and on the sockets that systemd has passed.
///
/// # Errors
/// `Io` if an address cannot be listened on; `Request` if there is none.
pub fn bind(addresses: &[Address]) -> Result<Vec<Socket>> {
    let mut sockets = passed()?;
    for address in addresses {
        let cannot = |reason: std::io::Error| {
            let text = format!("cannot listen on {address}: {reason}");
            Error::new(ErrorKind::Io, text).with_source(reason)
        };
        let listener = match address {
            Address::Tcp(address) => TcpListener::bind(address).map(Listener::Tcp),
            Address::Unix(path) => bind_unix(path),
        };
        let listener = listener.map_err(cannot)?;
        let address = match &listener {
            Listener::Tcp(tcp) => Address::Tcp(tcp.local_addr().map_err(cannot)?),
            Listener::Unix(..) => address.clone(),
        };
        sockets.push(Socket { listener, address });
    }
    match sockets.is_empty() {
        true => Err(Error::new(
            ErrorKind::Request,
            "there is no address to listen on",
        )),
        false => Ok(sockets),
    }
}

/// Listens on `path`. A file there is removed if it is the socket of a server that has ended.
fn bind_unix(path: &Path) -> std::io::Result<Listener> {
    let is_socket = |path: &Path| {
        use std::os::unix::fs::FileTypeExt;
        std::fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket())
    };
    if is_socket(path) && std::os::unix::net::UnixStream::connect(path).is_err() {
        std::fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    Ok(Listener::Unix(listener, Some(Unlink(path.to_owned()))))
}

/// The sockets that systemd has passed.
fn passed() -> Result<Vec<Socket>> {
    let mut passed = listenfd::ListenFd::from_env();
    let wrong = |number: usize, reason: &dyn std::fmt::Display| {
        let text = format!("socket {number} of systemd is neither TCP nor unix: {reason}");
        Error::new(ErrorKind::Io, text)
    };
    let mut sockets = Vec::new();
    for number in 0..passed.len() {
        if let Ok(Some(tcp)) = passed.take_tcp_listener(number) {
            let address = tcp.local_addr().map_err(|e| wrong(number, &e))?;
            sockets.push(Socket {
                listener: Listener::Tcp(tcp),
                address: Address::Tcp(address),
            });
            continue;
        }
        let unix = passed
            .take_unix_listener(number)
            .map_err(|e| wrong(number, &e))?;
        let unix = unix.ok_or_else(|| wrong(number, &"it is taken"))?;
        let address = unix.local_addr().map_err(|e| wrong(number, &e))?;
        let path = address
            .as_pathname()
            .unwrap_or_else(|| Path::new(""))
            .to_owned();
        sockets.push(Socket {
            listener: Listener::Unix(unix, None),
            address: Address::Unix(path),
        });
    }
    Ok(sockets)
}

/// What the connections of all sockets share.
#[derive(Clone, Debug)]
pub struct Front {
    router: Router,
    limits: Limits,
    connections: Arc<Semaphore>,
}

impl Front {
    /// Serves `router` within `limits`.
    pub fn new(router: Router, limits: Limits) -> Self {
        Self {
            router,
            limits,
            connections: Arc::new(Semaphore::new(limits.connections)),
        }
    }

    /// Accepts connections on `socket` until `stop` is true, then waits for the requests under way. Call it on a tokio
    /// runtime.
    ///
    /// # Errors
    /// `Io` if the socket cannot be used.
    pub async fn serve(self, socket: Socket, mut stop: watch::Receiver<bool>) -> Result<()> {
        let graceful = GracefulShutdown::new();
        let cannot = |reason: std::io::Error| {
            let text = format!("cannot listen: {reason}");
            Error::new(ErrorKind::Io, text).with_source(reason)
        };
        let stopped = async move {
            // An error is the end of the server.
            let _ = stop.wait_for(|stop| *stop).await;
        };
        tokio::pin!(stopped);
        match socket.listener {
            Listener::Tcp(tcp) => {
                tcp.set_nonblocking(true).map_err(cannot)?;
                let tcp = tokio::net::TcpListener::from_std(tcp).map_err(cannot)?;
                loop {
                    let permit = self.permit(&mut stopped);
                    let Some(permit) = permit.await else { break };
                    tokio::select! {
                        accepted = tcp.accept() => match accepted {
                            Ok((stream, peer)) => {
                                // A failure costs time only.
                                let _ = stream.set_nodelay(true);
                                self.connect(stream, peer.to_string(), permit, &graceful);
                            }
                            Err(reason) => self.wait(&reason).await,
                        },
                        () = &mut stopped => break,
                    }
                }
            }
            Listener::Unix(unix, _unlink) => {
                unix.set_nonblocking(true).map_err(cannot)?;
                let unix = tokio::net::UnixListener::from_std(unix).map_err(cannot)?;
                loop {
                    let permit = self.permit(&mut stopped);
                    let Some(permit) = permit.await else { break };
                    tokio::select! {
                        accepted = unix.accept() => match accepted {
                            Ok((stream, _)) => self.connect(stream, "unix".into(), permit, &graceful),
                            Err(reason) => self.wait(&reason).await,
                        },
                        () = &mut stopped => break,
                    }
                }
            }
        }
        graceful.shutdown().await;
        Ok(())
    }

    /// The permission for one more connection; `None` when the server stops.
    async fn permit(
        &self,
        stopped: &mut Pin<&mut impl Future<Output = ()>>,
    ) -> Option<tokio::sync::OwnedSemaphorePermit> {
        tokio::select! {
            permit = self.connections.clone().acquire_owned() => permit.ok(),
            () = stopped => None,
        }
    }

    async fn wait(&self, reason: &std::io::Error) {
        tracing::warn!("cannot accept a connection: {reason}");
        tokio::time::sleep(PAUSE).await;
    }

    /// Serves a connection on a task of its own.
    fn connect(
        &self,
        stream: impl AsyncRead + AsyncWrite + Send + 'static,
        peer: String,
        permit: tokio::sync::OwnedSemaphorePermit,
        graceful: &GracefulShutdown,
    ) {
        let limits = &self.limits;
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(limits.write_time));
        // Longer than any request that goes on: it ends connections that never send a byte.
        let longest = limits.header_time + limits.body_time + limits.time;
        stream.set_read_timeout(Some(longest));
        let mut builder = Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.header_time)
            .max_buf_size(HEADER_BYTES);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS)
            .max_header_list_size(HEADER_BYTES as u32)
            .keep_alive_interval(PING)
            .keep_alive_timeout(PING);
        let peer = Peer(peer.into());
        let router = self.router.clone();
        let service = hyper::service::service_fn(move |request: Request<Incoming>| {
            let (router, peer) = (router.clone(), peer.clone());
            async move {
                let mut request = request.map(Body::new);
                request.extensions_mut().insert(peer);
                router.oneshot(request).await
            }
        });
        let watcher = graceful.watcher();
        tokio::spawn(async move {
            let connection = builder.serve_connection(TokioIo::new(Box::pin(stream)), service);
            // Clients break off, send what is no HTTP, or are too slow: their own business.
            if let Err(reason) = watcher.watch(connection).await {
                tracing::debug!("a connection ended: {reason}");
            }
            drop(permit);
        });
    }
}
