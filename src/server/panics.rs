//! What is known of a panic while a query is answered: one query's SERVFAIL, one line in the log.
//!
//! The hook of the process keeps the message and the stack for whoever catches the panic; panics
//! that nobody is prepared for are printed as ever.

use crate::metrics::Counter;
use crate::plugin::Block;
use futures_util::FutureExt;
use std::any::Any;
use std::backtrace::Backtrace;
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Once;

thread_local! {
    static CATCHING: Cell<bool> = const { Cell::new(false) };
    static LAST: RefCell<Option<Panic>> = const { RefCell::new(None) };
}

/// A panic that was caught.
#[derive(Debug)]
pub struct Panic {
    /// Its message and place; empty if the hook is not installed.
    message: String,
    stack: Option<Backtrace>,
}

/// Installs the hook; once for a process, further calls do nothing.
pub fn install_hook() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let otherwise = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !CATCHING.get() {
                return otherwise(info);
            }
            let place = info.location().map(|place| format!(" at {place}"));
            let last = Panic {
                message: text(info.payload()) + &place.unwrap_or_default(),
                // The addresses only; their names are looked up when it is printed.
                stack: Some(Backtrace::force_capture()),
            };
            LAST.set(Some(last));
        }));
    });
}

/// Runs `work`; a panic in it is given back.
///
/// # Errors
/// The panic.
#[inline]
pub fn catch<T>(work: impl FnOnce() -> T) -> Result<T, Panic> {
    let before = CATCHING.replace(true);
    let result = catch_unwind(AssertUnwindSafe(work));
    CATCHING.set(before);
    result.map_err(|payload| last(&*payload))
}

/// Runs a future; a panic in it is given back.
///
/// # Errors
/// The panic.
pub async fn catch_in<T>(work: impl Future<Output = T>) -> Result<T, Panic> {
    let mut work = pin!(AssertUnwindSafe(work).catch_unwind());
    // A future that panics ends there, on the thread that polls it.
    poll_fn(|cx| {
        let before = CATCHING.replace(true);
        let polled = work.as_mut().poll(cx);
        CATCHING.set(before);
        polled.map_err(|payload| last(&*payload))
    })
    .await
}

fn last(payload: &(dyn Any + Send)) -> Panic {
    LAST.take().unwrap_or_else(|| Panic {
        message: text(payload),
        stack: None,
    })
}

fn text(payload: &(dyn Any + Send)) -> String {
    let word = payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned());
    let text = word.or_else(|| payload.downcast_ref::<String>().cloned());
    text.unwrap_or_default()
}

impl Panic {
    /// Counts and logs it; the process serves on (SC-31). `block` is the one that failed, `server`
    /// its label if that is not known.
    pub fn report(&self, counter: &Counter, block: Option<&Block>, server: &str) {
        counter.inc();
        tracing::error!(target: "server", "{}", self.line(block, server));
    }

    fn line(&self, block: Option<&Block>, server: &str) -> String {
        let server = block.map_or(server, |block| &block.server);
        let mut line = format!("Recovered from panic in server: \"{server}\"");
        if block.is_some_and(|block| block.stacktrace) {
            line.push_str(&format!(" {}", self.message));
            if let Some(stack) = &self.stack {
                line.push_str(&format!("\n{stack}"));
            }
        }
        line
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn block(stacktrace: bool) -> Block {
        Block {
            server: "dns://:53".into(),
            stacktrace,
            ..Block::default()
        }
    }

    fn a_named_function_that_panics(number: u32) {
        panic!("number {number}");
    }

    #[test]
    fn the_line_of_a_panic() {
        install_hook();
        let panic = catch(|| a_named_function_that_panics(7)).unwrap_err();
        let bare = "Recovered from panic in server: \"dns://:53\"";
        assert_eq!(panic.line(Some(&block(false)), ""), bare);
        assert_eq!(panic.line(None, "dns://:53"), bare);
        let long = panic.line(Some(&block(true)), "");
        assert!(
            long.starts_with(&format!("{bare} number 7 at src/server/panics.rs:")),
            "{long}"
        );
        assert!(long.contains("a_named_function_that_panics"), "{long}");
        // It was taken: nothing of it shows in the next one.
        assert_eq!(catch(|| 1).unwrap(), 1);
        assert!(LAST.take().is_none());
    }

    #[tokio::test]
    async fn a_future_that_panics_later() {
        install_hook();
        let work = async {
            tokio::task::yield_now().await;
            a_named_function_that_panics(8);
        };
        let panic = catch_in(work).await.unwrap_err();
        let long = panic.line(Some(&block(true)), "");
        assert!(long.contains(" number 8 at "), "{long}");
        assert!(!CATCHING.get());
        assert_eq!(catch_in(async { 5 }).await.unwrap(), 5);
    }
}
