//! What the plugins of a server block give each other.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Handles that plugins of one server block provide to the others, each under its type: the
/// cluster that `kubernetes` answers from, for `autopath` and `k8s_external` for example.
///
/// Filled while the block is built, in the order of the table of directives. A plugin that stands
/// before its provider looks it up in a hook of [`super::Hooks::start`], when all are built.
#[derive(Debug, Default)]
pub struct Provided {
    handles: Mutex<HashMap<TypeId, Vec<Arc<dyn Any + Send + Sync>>>>,
}

impl Provided {
    /// Adds a handle.
    pub fn provide<T: Send + Sync + 'static>(&self, handle: Arc<T>) {
        let mut handles = self.handles.lock().unwrap_or_else(PoisonError::into_inner);
        handles.entry(TypeId::of::<T>()).or_default().push(handle);
    }

    /// The first handle of this type.
    pub fn get<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        self.all().into_iter().next()
    }

    /// All handles of this type, in the order in which they were provided.
    pub fn all<T: Send + Sync + 'static>(&self) -> Vec<Arc<T>> {
        let handles = self.handles.lock().unwrap_or_else(PoisonError::into_inner);
        let of_type = handles.get(&TypeId::of::<T>()).into_iter().flatten();
        of_type
            .filter_map(|handle| Arc::clone(handle).downcast().ok())
            .collect()
    }
}
