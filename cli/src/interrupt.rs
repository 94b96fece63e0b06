//! Ctrl-C: files being written are finished first.

use crate::terminal;
use fullconv::{Error, ErrorKind, Result};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The exit status after Ctrl-C (SIGINT, signal 2): 128 + 2.
const STATUS: u8 = 130;

static ASKED: AtomicBool = AtomicBool::new(false);
static WRITING: Mutex<()> = Mutex::new(());

/// From now on the first Ctrl-C sets [`is_asked`]; the second ends the program at once.
pub fn stop_when_asked() -> Result<()> {
    handle(|| {
        if ASKED.swap(true, Ordering::SeqCst) {
            std::process::exit(STATUS.into());
        }
        terminal::report("stopping after the pictures under way; Ctrl-C again stops at once");
    })
}

/// Whether Ctrl-C was pressed.
pub fn is_asked() -> bool {
    ASKED.load(Ordering::SeqCst)
}

/// The exit status after Ctrl-C.
pub fn status() -> ExitCode {
    ExitCode::from(STATUS)
}

/// From now on Ctrl-C ends the program at once, or, while it is [`writing`], after the write.
pub fn stop_unless_writing() -> Result<()> {
    handle(|| {
        let _guard = writing();
        std::process::exit(STATUS.into());
    })
}

/// Delays Ctrl-C until the guard is dropped.
pub fn writing() -> MutexGuard<'static, ()> {
    WRITING.lock().unwrap_or_else(PoisonError::into_inner)
}

fn handle(handler: impl FnMut() + Send + 'static) -> Result<()> {
    ctrlc::set_handler(handler)
        .map_err(|e| Error::new(ErrorKind::Io, format!("cannot listen for Ctrl-C: {e}")))
}
