//! Traces by OTLP over HTTP, for whoever collects them; off unless an endpoint is configured.
//!
//! Spans are sent in batches from a thread of the SDK's own; what cannot be sent is dropped, never waited for. Headers that
//! a collector wants come from `OTEL_EXPORTER_OTLP_HEADERS`, as everywhere with OpenTelemetry.

use std::time::Duration;

use client::collector::Carrier;
use opentelemetry::{KeyValue, global};
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::{
    Resource,
    propagation::TraceContextPropagator,
    trace::{Sampler, SdkTracerProvider},
};
use tokio::runtime::Handle;

use crate::{
    config::Settings,
    failure::{Failure, Result},
};

/// How long one batch may take, and the last one when the process ends.
const PATIENCE: Duration = Duration::from_secs(5);

/// What sends traces, if anything does.
#[derive(Debug)]
pub(crate) struct Telemetry(Option<SdkTracerProvider>);

/// Sends traces from now on, where that is configured.
pub(crate) fn start(settings: &Settings, runtime: &Handle) -> Result<Telemetry> {
    let Some(endpoint) = settings.otlp_endpoint() else { return Ok(Telemetry(None)) };
    let refused = |why: &dyn std::fmt::Display| {
        Failure::usage(format!("telemetry.otlp_endpoint: {why}"))
            .remedy("Name the collector's HTTP address, such as http://127.0.0.1:4318.")
    };
    let url = format!("{}/v1/traces", endpoint.trim_end_matches('/'));
    if !(url.starts_with("http://") || url.starts_with("https://")) {
        return Err(refused(&"not an address that begins with http:// or https://"));
    }
    let percent = settings.trace_percent();
    let Some(share) = u8::try_from(percent).ok().filter(|percent| *percent <= 100) else {
        return Err(Failure::usage("telemetry.sample_percent: more than 100").remedy("Write a number from 0 to 100."));
    };
    let carrier = Carrier::new(&url, PATIENCE, runtime.clone()).map_err(|error| refused(&error))?;
    let exporter =
        SpanExporter::builder().with_http().with_http_client(carrier).with_endpoint(url).with_timeout(PATIENCE);
    let exporter = exporter.build().map_err(|error| refused(&error))?;
    let resource = Resource::builder()
        .with_service_name("pilothouse")
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .with_attribute(KeyValue::new("service.instance.id", host::random::base62(12)))
        .build();
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        // Whoever calls us with a trace has decided whether it is kept.
        .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(f64::from(share) / 100.0))))
        .with_resource(resource)
        .build();
    global::set_text_map_propagator(TraceContextPropagator::new());
    global::set_tracer_provider(provider.clone());
    host::trace::switch_on();
    Ok(Telemetry(Some(provider)))
}

impl Telemetry {
    /// Sends what is left. Blocks this thread for a while, so that it is called on none of the runtime's.
    pub(crate) fn stop(self) {
        if let Some(provider) = self.0
            && let Err(error) = provider.shutdown_with_timeout(PATIENCE)
        {
            tracing::warn!(%error, "The last traces were not sent");
        }
    }
}
