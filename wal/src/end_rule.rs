//! Where the log ends: one labelled decision per situation, every combination tested, exactly one match.
//!
//! Recovery walks batch by batch and stops at *p*, the first position at which no valid batch continues the log. Two
//! things can have happened there: a write that was never acknowledged was torn (the log ends at p), or bytes that
//! were promised are gone (corruption). What decides is *E*: the greatest position before which everything was
//! synced, as told by any later valid batch, any later header, or a manifest. **p < E is corruption, else the log
//! ends at p.** Nothing else is evidence. With several batches in flight a valid batch beyond a lost one is normal.

/// What is known when the walk stops in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    /// A later header names this segment as its predecessor, and its exact end.
    pub(crate) bounded: bool,
    /// The walk came exactly to that end.
    pub(crate) reached: bool,
    /// The last checksum there is the one that the later header names.
    pub(crate) chained: bool,
    /// p < E.
    pub(crate) behind: bool,
    /// The last batch closes the segment and names the next one.
    pub(crate) closed: bool,
    /// The file with that number exists. A greater one does not stand in for it: files are prepared ahead.
    pub(crate) successor: bool,
}

/// What the walk does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Goes on with the next segment.
    Continue,
    /// The log ends here.
    End,
    /// The segment is not the one that its successor was written behind: it was swapped, or is an older version.
    Swapped,
    /// Bytes before the end that a later header names are damaged.
    HoleBelowHeader,
    /// Bytes before a position that was durable are damaged.
    HoleBelowDurableEnd,
    /// The segment after a closed one is there, was durable, and has no header any more.
    SuccessorBeheaded,
    /// The segment after a closed one is missing.
    SuccessorMissing,
}

/// A row: `None` matches both.
struct Row {
    label: &'static str,
    bounded: Option<bool>,
    reached: Option<bool>,
    chained: Option<bool>,
    behind: Option<bool>,
    closed: Option<bool>,
    successor: Option<bool>,
    decision: Decision,
}

const ANY: Option<bool> = None;
const YES: Option<bool> = Some(true);
const NO: Option<bool> = Some(false);

/// The table. Columns: bounded, reached, chained, behind, closed, successor.
#[rustfmt::skip]
const TABLE: [Row; 8] = [
    row("bounded, whole",             [YES, YES, YES, ANY, ANY, ANY], Decision::Continue),
    row("bounded, other bytes",       [YES, YES, NO,  ANY, ANY, ANY], Decision::Swapped),
    row("bounded, hole",              [YES, NO,  ANY, ANY, ANY, ANY], Decision::HoleBelowHeader),
    row("newest, hole",               [NO,  ANY, ANY, YES, NO,  ANY], Decision::HoleBelowDurableEnd),
    row("newest, closed, next bad",   [NO,  ANY, ANY, YES, YES, YES], Decision::SuccessorBeheaded),
    row("newest, closed, next gone",  [NO,  ANY, ANY, ANY, YES, NO ], Decision::SuccessorMissing),
    row("newest, closed, roll begun", [NO,  ANY, ANY, NO,  YES, YES], Decision::End),
    row("newest, torn or quiet",      [NO,  ANY, ANY, NO,  NO,  ANY], Decision::End),
];

const fn row(label: &'static str, columns: [Option<bool>; 6], decision: Decision) -> Row {
    let [bounded, reached, chained, behind, closed, successor] = columns;
    Row { label, bounded, reached, chained, behind, closed, successor, decision }
}

impl Row {
    fn matches(&self, facts: &Facts) -> bool {
        let fits = |column: Option<bool>, fact: bool| column.is_none_or(|value| value == fact);
        fits(self.bounded, facts.bounded)
            && fits(self.reached, facts.reached)
            && fits(self.chained, facts.chained)
            && fits(self.behind, facts.behind)
            && fits(self.closed, facts.closed)
            && fits(self.successor, facts.successor)
    }
}

/// The decision, and the label of its row.
pub(crate) fn decide(facts: &Facts) -> (Decision, &'static str) {
    let row = TABLE.iter().find(|row| row.matches(facts));
    // The table is total (tested); were it not, damage is the answer that loses nothing.
    row.map_or((Decision::HoleBelowDurableEnd, "no row"), |row| (row.decision, row.label))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_combination_matches_exactly_one_row() {
        for bits in 0..64u8 {
            let bit = |n: u8| bits & (1 << n) != 0;
            let facts = Facts {
                bounded: bit(0),
                reached: bit(1),
                chained: bit(2),
                behind: bit(3),
                closed: bit(4),
                successor: bit(5),
            };
            let matching: Vec<_> = TABLE.iter().filter(|row| row.matches(&facts)).collect();
            assert_eq!(matching.len(), 1, "{facts:?}");
            assert_eq!(decide(&facts), (matching[0].decision, matching[0].label));
            // The rule itself, said once more without the table.
            let damaged = if facts.bounded { !facts.reached || !facts.chained } else { facts.behind };
            let gone = !facts.bounded && facts.closed && !facts.successor;
            let refused = !matches!(decide(&facts).0, Decision::End | Decision::Continue);
            assert_eq!(refused, damaged || gone, "{facts:?}");
        }
    }
}
