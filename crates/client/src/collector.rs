//! The way to a collector of traces.

use std::{
    future::Future,
    pin::Pin,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use tokio::runtime::Handle;

use crate::error::ClientError;

/// What came of a batch.
type Sent = Result<Response<Bytes>, HttpError>;

/// Carries batches to the collector on our runtime, whose own thread has none.
#[derive(Debug)]
pub struct Carrier {
    http: reqwest::Client,
    runtime: Handle,
    /// Whether the last batch got through: only changes are worth a line in the log.
    works: AtomicBool,
}

impl Carrier {
    /// Prepares to send to `address`; every call ends within `patience`.
    pub fn new(address: &str, patience: Duration, runtime: Handle) -> Result<Self, ClientError> {
        Ok(Self { http: crate::http::connect(address, patience)?, runtime, works: AtomicBool::new(true) })
    }

    fn note(&self, outcome: &Sent) {
        let failure = match outcome {
            Ok(response) if response.status().is_success() => None,
            Ok(response) => Some(format!("the collector answered {}", response.status())),
            Err(error) => Some(error.to_string()),
        };
        let worked = self.works.swap(failure.is_none(), Ordering::AcqRel);
        match failure {
            Some(error) if worked => tracing::warn!(error, "Traces cannot be sent, and are dropped"),
            None if !worked => tracing::info!("Traces are sent again"),
            Some(_) | None => {}
        }
    }
}

impl HttpClient for Carrier {
    fn send_bytes<'this, 'sent>(
        &'this self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Sent> + Send + 'sent>>
    where
        'this: 'sent,
        Self: 'sent,
    {
        Box::pin(async move {
            let http = self.http.clone();
            let sent = self.runtime.spawn(async move {
                let answer = http.execute(request.try_into()?).await?;
                let status = answer.status();
                let mut response = Response::new(answer.bytes().await?);
                *response.status_mut() = status;
                Ok::<_, HttpError>(response)
            });
            let outcome = sent.await.unwrap_or_else(|error| Err(error.into()));
            self.note(&outcome);
            outcome
        })
    }
}
