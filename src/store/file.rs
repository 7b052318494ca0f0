//! wip: being built on a branch of its own.

/// wip
#[derive(Debug)]
pub struct FileStore;
/// wip
#[derive(Debug)]
pub struct FileStoreOptions;
/// wip
#[derive(Debug)]
pub struct OpenError;
impl std::fmt::Display for OpenError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("not built yet")
    }
}
impl std::error::Error for OpenError {}
impl FileStore {
    /// wip
    pub fn open(_path: &str) -> Result<super::MemoryStore, OpenError> {
        Err(OpenError)
    }
}
