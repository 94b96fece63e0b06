//! Panics and the library's warnings, on the browser's console.

use std::fmt::{Debug, Write};
use std::panic::PanicHookInfo;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};
use wasm_bindgen::JsValue;
use web_sys::console;

pub(super) fn install() {
    std::panic::set_hook(Box::new(|info: &PanicHookInfo<'_>| {
        console::error_1(&JsValue::from_str(&format!("fullconv: {info}")));
    }));
    // An existing subscriber is kept.
    let _ = tracing::subscriber::set_global_default(Console);
}

/// Shows warnings and errors; ignores spans.
struct Console;

impl Subscriber for Console {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::WARN
    }

    fn event(&self, event: &Event<'_>) {
        let mut text = Text(format!("{}: ", event.metadata().target()));
        event.record(&mut text);
        let text = JsValue::from_str(&text.0);
        match *event.metadata().level() {
            Level::ERROR => console::error_1(&text),
            _ => console::warn_1(&text),
        }
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// The text of an event: its message and its other fields.
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // Writing to a string does not fail.
        let _ = match field.name() {
            "message" => write!(self.0, "{value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}
