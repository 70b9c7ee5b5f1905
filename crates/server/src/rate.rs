//! How many requests a token may make. In memory: a restart forgives.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use api::problem::RATE_LIMITED;

use crate::problem::Problem;

/// Beyond this many tokens, buckets that are full again are forgotten.
const MAX_BUCKETS: usize = 4096;
const MINUTE: Duration = Duration::from_secs(60);

/// A bucket for each token, holding a minute's worth and filling evenly.
#[derive(Debug)]
pub(crate) struct RateLimit {
    per_minute: Option<u32>,
    buckets: Mutex<HashMap<String, Bucket>>,
}

#[derive(Debug)]
struct Bucket {
    left: f64,
    at: Instant,
}

impl RateLimit {
    pub(crate) fn new(per_minute: Option<u32>) -> Self {
        Self { per_minute, buckets: Mutex::default() }
    }

    /// Counts one request of this token, or refuses it.
    pub(crate) fn take(&self, token: &str) -> Result<(), Problem> {
        self.take_at(token, host::clock::monotonic())
    }

    fn take_at(&self, token: &str, now: Instant) -> Result<(), Problem> {
        let Some(per_minute) = self.per_minute else { return Ok(()) };
        let size = f64::from(per_minute);
        let filled = |bucket: &Bucket| {
            let gained = now.saturating_duration_since(bucket.at).as_secs_f64() / MINUTE.as_secs_f64() * size;
            (bucket.left + gained).min(size)
        };
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= MAX_BUCKETS {
            buckets.retain(|_, bucket| filled(bucket) < size);
        }
        let bucket = buckets.entry(token.to_owned()).or_insert(Bucket { left: size, at: now });
        bucket.left = filled(bucket);
        bucket.at = now;
        if bucket.left >= 1.0 {
            bucket.left -= 1.0;
            return Ok(());
        }
        let wait = 60_u32.div_ceil(per_minute.max(1)).max(1);
        Err(Problem::new(RATE_LIMITED, format!("this token may make {per_minute} requests a minute")).retry_after(wait))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_empties_and_fills_evenly() {
        let limit = RateLimit::new(Some(60));
        let start = host::clock::monotonic();
        let take = |token, seconds| limit.take_at(token, start + Duration::from_secs(seconds)).is_ok();

        assert!((0..60).all(|_| take("a", 0)));
        assert!(!take("a", 0));
        assert!(take("b", 0));
        assert!(take("a", 1) && !take("a", 1));
        assert_eq!((0..100).filter(|_| take("a", 1000)).count(), 60);
    }

    #[test]
    fn without_a_rate_nothing_is_counted() {
        let limit = RateLimit::new(None);

        assert!((0..10_000).all(|_| limit.take("a").is_ok()));
        assert!(limit.buckets.lock().unwrap().is_empty());
    }
}
