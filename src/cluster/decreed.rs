//! What the settings say about the members' states, whatever is measured.

use std::collections::HashSet;
use std::time::Duration;

use crate::health::admission::{self, Absence};
use crate::health::cluster_health::{Rules, States};
use crate::member::State;
use crate::settings::Settings;

/// The states as the settings decree them; `None` if the measured states count.
pub(super) fn decreed(settings: &Settings, known: &States) -> Option<States> {
    if !settings.are_mirrors && settings.forbidden.is_empty() {
        return None;
    }
    let members = 1 + settings.replicas.len();
    let mut states = if settings.are_mirrors { States::all_up(members) } else { known.clone() };
    // Members that have joined and left may be thousands.
    let forbidden: HashSet<_> = settings.forbidden.iter().copied().collect();
    let both = states.members.iter_mut().zip(&mut states.absences);
    for ((state, absence), alias) in both.zip(settings.members()) {
        if forbidden.contains(&alias) {
            *state = State::Down;
            *absence = Some(Absence { from: Duration::ZERO, until: Duration::MAX });
        }
    }
    states.trials = Box::default();
    Some(states)
}

/// The rules by which the states are judged.
pub(super) fn rules(settings: &Settings) -> Rules {
    // Without a monitor, lag figures never improve, so `MAX_LAG` would exclude a replica permanently. Without a monitor
    // a requirement ends only when all replicas have it, including those out of service, so that no floor is needed.
    let has_floors = settings.watched && settings.consistent && !settings.are_mirrors;
    let admission = has_floors.then_some(admission::Rules { lease: settings.lease });
    Rules { is_watched: settings.watched, max_lag: settings.max_lag.filter(|_| settings.watched), admission }
}
