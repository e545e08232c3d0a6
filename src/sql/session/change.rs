//! The changes of a session.

/// The action on the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A setting has another value until the session ends or the setting is reset.
    Set,
    /// A setting has another value until the transaction ends.
    Local,
    /// A setting has the value that the session began with.
    Reset,
    /// One thing more is held: a lock, a prepared statement.
    Hold,
    /// One thing less of the kind is held.
    Release,
    /// Nothing of the kind is held any more.
    ReleaseAll,
    /// All settings are reset (`RESET ALL`).
    ResetAll,
    /// The session is as a new one (`DISCARD ALL`).
    Discard,
    /// The changes since a savepoint are undone.
    Back,
}

impl Action {
    /// Its name for Python.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Set => "set",
            Self::Local => "local",
            Self::Reset => "reset",
            Self::Hold => "hold",
            Self::Release => "release",
            Self::ReleaseAll => "release_all",
            Self::ResetAll => "reset_all",
            Self::Discard => "discard",
            Self::Back => "back",
        }
    }
}

/// One change of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The action.
    pub action: Action,
    /// The setting in lower case (`"search_path"`, `"@x"`, `"database"`), `"?"` for one that the text does not show, or the
    /// kind of thing that is held.
    pub name: String,
    /// Whether later reads may have another meaning.
    pub reads: bool,
}

/// A setting that the text does not show.
pub(super) const UNKNOWN: &str = "?";
/// The temporary tables of a session, which PostgreSQL takes back with a transaction, as it does with settings.
pub(super) const TEMPORARY: &str = "<temporary>";
pub(super) const LOCK: &str = "lock";
pub(super) const PREPARED: &str = "prepared";
