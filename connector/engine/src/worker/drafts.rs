//! Guesses at what sequences decode next, where checking them pays.

use std::collections::HashMap;

use crate::{
    active::Active,
    pace::Pace,
    scheduler::{Id, Planned, Scheduler},
};

/// How a worker chooses drafts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Thrift {
    /// Those that pay by measured costs.
    Measured,
    /// All that have a chance.
    Lavish,
}

/// Most drafts of one sequence in a step.
const MOST_DRAFTS: usize = 24;

/// The chance from which on drafts are checked whatever they cost.
const LAVISH: f32 = 0.02;

/// The drafts of the step that is planned.
pub(super) struct Drafts {
    thrift: Thrift,
    pub(super) by_sequence: HashMap<Id, Vec<u32>>,
}

impl Drafts {
    pub(super) fn new(thrift: Thrift) -> Self {
        Self {
            thrift,
            by_sequence: HashMap::new(),
        }
    }

    /// Adds the drafts that pay to the plan.
    pub(super) fn plan(
        &mut self,
        plan: &mut [Planned],
        scheduler: &mut Scheduler,
        active: &mut HashMap<Id, Active>,
        pace: &Pace,
    ) {
        let worth = match self.thrift {
            Thrift::Lavish => LAVISH,
            Thrift::Measured => {
                let rows = plan.iter().map(|planned| planned.rows).sum();
                let decoding = plan.iter().filter(|planned| planned.decodes).count();
                pace.worth(rows, decoding)
            }
        };
        if worth >= 1.0 {
            return;
        }
        scheduler.plan_drafts(plan, |id, tokens, most| {
            let Some(active) = active.get_mut(&id) else {
                return 0;
            };
            let Some(drafter) = &mut active.job.drafter else {
                return 0;
            };
            let drafts = self.by_sequence.entry(id).or_default();
            drafts.clear();
            drafter.propose(tokens, most.min(MOST_DRAFTS), worth, drafts);
            drafts.len()
        });
    }

    /// Those that are planned for a sequence.
    pub(super) fn of(&self, planned: &Planned) -> &[u32] {
        match planned.drafts {
            0 => &[],
            count => &self.by_sequence[&planned.id][..count],
        }
    }

    /// The sequence is at its end.
    pub(super) fn forget(&mut self, id: Id) {
        self.by_sequence.remove(&id);
    }
}
