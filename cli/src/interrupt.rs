//! Ctrl-C: what is being written is finished first.

use crate::terminal;
use fullconv::{Error, ErrorKind, Result};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The status of a program that Ctrl-C (SIGINT, signal 2) ended: 128 + 2.
const STATUS: u8 = 130;

static ASKED: AtomicBool = AtomicBool::new(false);
static WRITING: Mutex<()> = Mutex::new(());

/// From now on Ctrl-C asks to stop, see [`is_asked`]; a second one ends the program at once.
pub fn stop_when_asked() -> Result<()> {
    handle(|| {
        if ASKED.swap(true, Ordering::SeqCst) {
            std::process::exit(STATUS.into());
        }
        terminal::report("stopping after the pictures in work; Ctrl-C again stops at once");
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

/// From now on Ctrl-C ends the program at once, unless it is [`writing`]: then after that.
pub fn stop_unless_writing() -> Result<()> {
    handle(|| {
        let _guard = writing();
        std::process::exit(STATUS.into());
    })
}

/// Holds Ctrl-C back until the guard is let go.
pub fn writing() -> MutexGuard<'static, ()> {
    WRITING.lock().unwrap_or_else(PoisonError::into_inner)
}

fn handle(handler: impl FnMut() + Send + 'static) -> Result<()> {
    ctrlc::set_handler(handler)
        .map_err(|e| Error::new(ErrorKind::Io, format!("cannot listen for Ctrl-C: {e}")))
}
