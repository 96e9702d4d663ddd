//! How fast the API server is asked (`apiserver_qps`, `apiserver_burst`, `apiserver_max_inflight`).

use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep};

/// Requests that may be sent at once where only their rate is given, as in client-go.
const BURST: u32 = 10;

/// Bounds on the requests; without any, they are sent at once. (A watch is one request.)
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pace {
    /// Requests a second; 0 for no bound.
    pub qps: f64,
    /// Requests that may be sent at once before that counts; 0 for ten.
    pub burst: u32,
    /// Requests whose response has not begun; 0 for no bound.
    pub max_inflight: u32,
}

/// A token bucket, and the requests in flight.
pub(super) struct Pacer {
    pace: Pace,
    bucket: Mutex<Bucket>,
    in_flight: Option<Semaphore>,
}

struct Bucket {
    /// Below zero: requests that wait.
    tokens: f64,
    filled: Instant,
}

impl Pacer {
    pub(super) fn new(pace: Pace) -> Self {
        let burst = if pace.burst == 0 { BURST } else { pace.burst };
        let in_flight = Some(pace.max_inflight as usize).filter(|&most| most > 0);
        Self {
            pace: Pace { burst, ..pace },
            bucket: Mutex::new(Bucket {
                tokens: burst.into(),
                filled: Instant::now(),
            }),
            in_flight: in_flight.map(|most| Semaphore::new(most.min(Semaphore::MAX_PERMITS))),
        }
    }

    /// Waits until a request may be sent. It counts as in flight until what is given is dropped.
    pub(super) async fn wait(&self) -> Option<SemaphorePermit<'_>> {
        let permit = match &self.in_flight {
            // It is never closed.
            Some(semaphore) => semaphore.acquire().await.ok(),
            None => None,
        };
        let pause = self.take();
        if !pause.is_zero() {
            sleep(pause).await;
        }
        permit
    }

    /// Takes a token, and says how long it is until it is there.
    fn take(&self) -> Duration {
        let Pace { qps, burst, .. } = self.pace;
        if qps <= 0.0 {
            return Duration::ZERO;
        }
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let came = now.duration_since(bucket.filled).as_secs_f64() * qps;
        bucket.tokens = (bucket.tokens + came).min(burst.into()) - 1.0;
        bucket.filled = now;
        // An hour is as good as never, and no overflow.
        let seconds = (-bucket.tokens / qps).clamp(0.0, 3600.0);
        Duration::from_secs_f64(seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn requests_are_spread_after_the_burst() {
        let pacer = Pacer::new(Pace {
            qps: 2.0,
            burst: 3,
            max_inflight: 0,
        });
        let begun = Instant::now();
        for millis in [0, 0, 0, 500, 1000, 1500] {
            pacer.wait().await;
            assert_eq!(begun.elapsed().as_millis(), millis);
        }
        // No more than the burst is saved up.
        sleep(Duration::from_secs(60)).await;
        let begun = Instant::now();
        for millis in [0, 0, 0, 500] {
            pacer.wait().await;
            assert_eq!(begun.elapsed().as_millis(), millis);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn requests_in_flight_are_bounded() {
        let pacer = Pacer::new(Pace {
            max_inflight: 1,
            ..Pace::default()
        });
        let first = pacer.wait().await;
        assert!(first.is_some());
        let patience = Duration::from_secs(5);
        assert!(tokio::time::timeout(patience, pacer.wait()).await.is_err());
        drop(first);
        assert!(tokio::time::timeout(patience, pacer.wait()).await.is_ok());
        assert!(Pacer::new(Pace::default()).wait().await.is_none());
    }
}
