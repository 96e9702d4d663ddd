//! State that outlives a configuration: connection pools, caches, the cluster index.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Objects of the process, each under its type and the settings that define it.
///
/// A reload that leaves the settings as they are finds the object of the configuration before it;
/// an object that no configuration refers to any more is dropped.
#[derive(Debug, Default)]
pub struct Shared {
    objects: Mutex<HashMap<(TypeId, String), Weak<dyn Any + Send + Sync>>>,
}

impl Shared {
    /// The object of type `T` under `settings`, made by `make` if there is none.
    ///
    /// # Errors
    /// What `make` gives.
    pub fn get_or_try<T: Send + Sync + 'static, E>(
        &self,
        settings: &str,
        make: impl FnOnce() -> Result<T, E>,
    ) -> Result<Arc<T>, E> {
        let key = (TypeId::of::<T>(), settings.to_owned());
        let mut objects = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
        objects.retain(|_, object| object.strong_count() > 0);
        let live = objects.get(&key).and_then(Weak::upgrade);
        if let Some(object) = live.and_then(|object| object.downcast::<T>().ok()) {
            return Ok(object);
        }
        let object = Arc::new(make()?);
        let any: Arc<dyn Any + Send + Sync> = object.clone();
        objects.insert(key, Arc::downgrade(&any));
        Ok(object)
    }

    /// As [`Self::get_or_try`], where making cannot fail.
    pub fn get_or<T: Send + Sync + 'static>(
        &self,
        settings: &str,
        make: impl FnOnce() -> T,
    ) -> Arc<T> {
        let made: Result<_, std::convert::Infallible> = self.get_or_try(settings, || Ok(make()));
        match made {
            Ok(object) => object,
        }
    }
}
