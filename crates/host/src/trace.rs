//! Traces: spans of work that belong together, across requests, tasks and processes.
//!
//! Off until [`switch_on`]; then every span is a child of the one around it, and [`carry`] gives what a task has to keep so
//! that whoever carries it out, wherever that is, goes on with the same trace. Where spans go is up to the provider that was
//! made global beforehand (OpenTelemetry); this module is the one door to it.

use std::{
    borrow::Cow,
    collections::HashMap,
    future::Future,
    sync::atomic::{AtomicBool, Ordering},
};

use opentelemetry::{
    Context, KeyValue, Value, global,
    trace::{FutureExt, SpanKind, Status, TraceContextExt, Tracer},
};

static ON: AtomicBool = AtomicBool::new(false);

/// The header, and the member of a task's payload, that a trace travels by: `00-<trace>-<span>-<flags>`, as W3C Trace
/// Context has it.
pub const CARRIER: &str = "traceparent";

/// Begins to make spans. The provider and the propagator are global by now.
pub fn switch_on() {
    ON.store(true, Ordering::Release);
}

/// Whether spans are made at all.
pub fn is_on() -> bool {
    ON.load(Ordering::Acquire)
}

/// Work that has begun and ends when this is dropped. Nothing while traces are off.
#[derive(Debug)]
pub struct Span(Option<Context>);

/// Where work comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Asked for by a request from outside.
    Request,
    /// Taken from the queue.
    Task,
    /// A part of the work around it.
    Part,
}

impl Span {
    /// Begins a part of the current work.
    pub fn part(name: impl Into<Cow<'static, str>>) -> Self {
        if is_on() { Self::begin(Origin::Part, name.into(), &Context::current()) } else { Self(None) }
    }

    /// Begins work that goes on with the trace of `carrier`, or with one of its own where that is missing or makes no sense.
    pub fn following(origin: Origin, name: impl Into<Cow<'static, str>>, carrier: Option<&str>) -> Self {
        if !is_on() {
            return Self(None);
        }
        let carried: HashMap<String, String> =
            carrier.map(|text| (CARRIER.to_owned(), text.to_owned())).into_iter().collect();
        let parent =
            global::get_text_map_propagator(|propagator| propagator.extract_with_context(&Context::new(), &carried));
        Self::begin(origin, name.into(), &parent)
    }

    fn begin(origin: Origin, name: Cow<'static, str>, parent: &Context) -> Self {
        let kind = match origin {
            Origin::Request => SpanKind::Server,
            Origin::Task => SpanKind::Consumer,
            Origin::Part => SpanKind::Internal,
        };
        let tracer = global::tracer("pilothouse");
        let span = tracer.build_with_context(tracer.span_builder(name).with_kind(kind), parent);
        Self(Some(parent.with_span(span)))
    }

    /// Runs a future as this work: what it begins is a part of it.
    pub async fn around<F: Future>(&self, future: F) -> F::Output {
        match &self.0 {
            Some(context) => future.with_context(context.clone()).await,
            None => future.await,
        }
    }

    pub fn rename(&self, name: impl FnOnce() -> String) {
        if let Some(context) = &self.0 {
            context.span().update_name(name());
        }
    }

    /// Adds what is known of the work. `value` is only asked for while somebody listens.
    pub fn set<V: Into<Value>>(&self, key: &'static str, value: impl FnOnce() -> V) {
        if let Some(context) = self.0.as_ref().filter(|context| context.span().is_recording()) {
            context.span().set_attribute(KeyValue::new(key, value()));
        }
    }

    /// The work failed.
    pub fn fail(&self, why: impl FnOnce() -> String) {
        if let Some(context) = &self.0 {
            context.span().set_status(Status::error(why()));
        }
    }

    /// The id of its trace, 32 hex digits.
    pub fn trace_id(&self) -> Option<String> {
        self.0.as_ref().map(|context| context.span().span_context().trace_id().to_string())
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        if let Some(context) = &self.0 {
            context.span().end();
        }
    }
}

/// What the current trace is gone on with elsewhere; `None` while traces are off or this is no part of one.
pub fn carry() -> Option<String> {
    if !is_on() {
        return None;
    }
    let mut carried: HashMap<String, String> = HashMap::new();
    global::get_text_map_propagator(|propagator| propagator.inject(&mut carried));
    carried.remove(CARRIER)
}

/// Keeps the current trace for a future that runs on its own.
pub(crate) fn kept<F: Future>(future: F) -> impl Future<Output = F::Output> {
    // Without a trace this attaches the empty context, which costs a thread-local on each poll; so it is left out.
    let context = is_on().then(Context::current);
    async move {
        match context {
            Some(context) => future.with_context(context).await,
            None => future.await,
        }
    }
}
