//! What a finished checkpoint tells the nodes in memory, and what an unfinished one takes back.

use logwood_base::Lsn;
use logwood_base::sync::hand_over;

use super::{CheckpointJob, Phase, STEP_ATTACHED, VisitedInner, WrittenLeaf};
#[cfg(test)]
use crate::planted::{Bug, planted};
use crate::shared::Writer;
use crate::store::Store;

impl CheckpointJob {
    /// Attaches some images.
    pub(super) fn attach_some(&mut self) {
        let shared = std::sync::Arc::clone(&self.shared);
        let mut writer = shared.writer.lock();
        let at = self.lsn();
        for _ in 0..STEP_ATTACHED {
            // Leaves first: an inner node goes only when all below it are on disk.
            if let Some(written) = self.written.leaves.pop() {
                attach_leaf(&shared.store, &mut writer, at, written);
            } else if let Some(visited) = self.written.inners.pop() {
                attach_inner(&mut writer, visited);
            } else {
                writer.discard_pages(std::mem::take(&mut self.written.loose), Lsn::ZERO);
                writer.checkpoint = at;
                writer.job_runs = false;
                writer.eviction_pause = 0;
                writer.marked.clear();
                writer.marked_bytes = 0;
                self.phase = Phase::Over;
                break;
            }
        }
        shared.evict(&mut writer, shared.options.cache_bytes, &crossbeam_epoch::pin());
        hand_over(writer);
        shared.collect();
    }

    /// Takes everything back: what was dirty is dirty again.
    pub(super) fn give_up(&mut self) {
        let phase = std::mem::replace(&mut self.phase, Phase::Over);
        match phase {
            Phase::Over => return,
            Phase::Attach => {
                // Durable: the rest is attached.
                self.phase = Phase::Attach;
                while self.phase == Phase::Attach {
                    self.attach_some();
                }
                return;
            }
            Phase::Walk | Phase::Detach | Phase::Seal | Phase::Commit => {}
        }
        let shared = std::sync::Arc::clone(&self.shared);
        let mut writer = shared.writer.lock();
        let taken_out = shared.take_out_of_abandoned(&mut writer).is_ok();
        writer.walk = None;
        let mut visited = self.unfinished();
        visited.append(&mut self.written.inners);
        for VisitedInner { node, dirty_before, .. } in visited {
            make_dirty_again(&mut writer, &node, dirty_before);
        }
        writer.discard_pages(std::mem::take(&mut self.written.pages), Lsn::ZERO);
        writer.discard_pages(self.detaching.take().written, Lsn::ZERO);
        // Else they stay readable, no checkpoint succeeds, and giving up the next one tries again.
        for abandoned in shared.store.abandoned().into_iter().filter(|_| taken_out) {
            // Its pages stand for nothing: no commit reached them, and what the trees reached was taken out.
            for garbage in &mut writer.garbage {
                garbage.pages.retain(|page| page.addr.segment != abandoned.number);
            }
            for ahead in &mut writer.ahead {
                ahead.pages.retain(|page| page.addr.segment != abandoned.number);
            }
            shared.store.forget(abandoned.number);
        }
        writer.job_runs = false;
    }
}

/// Notes that a node must be visited by the next job.
fn make_dirty_again(writer: &mut Writer, node: &crate::node::inner::Inner, since: Lsn) {
    // A node that was visited because it had no page yet, and was not dirty otherwise, is dirty from the start.
    let since = if since == Lsn::MAX { Lsn::ZERO } else { since };
    if let Some(image) = node.make_dirty(since) {
        writer.discard_pages(image.into_pages(), Lsn::ZERO);
    }
}

fn attach_leaf(store: &Store, writer: &mut Writer, at: Lsn, written: WrittenLeaf) {
    let WrittenLeaf { leaf, image, fresh, extends, moved } = written;
    let superseded = leaf.superseded_at();
    if superseded != Lsn::MAX {
        // What it replaced or added to went when the leaf was superseded.
        writer.discard_pages(fresh, superseded);
        return;
    }
    let Some(image) = image else {
        writer.discard_pages(leaf.take_pages(), Lsn::ZERO);
        return;
    };
    let stands = leaf.image().is_some_and(|now| image.extends(&now));
    #[cfg(test)]
    let stands = stands || planted(Bug::AddedToWhatIsGone);
    if extends && !stands {
        // The cleaner took away what was added to: the leaf is dirty, and is written whole by the next checkpoint.
        writer.discard_pages(fresh, Lsn::ZERO);
        return;
    }
    let changed = leaf.first_change_above(at).is_some();
    #[cfg(test)]
    let changed = changed && !planted(Bug::ChangedLeafCountsAsClean);
    writer.discard_pages(leaf.set_image(image, !changed), Lsn::ZERO);
    moved.into_iter().for_each(|(value, extents)| value.move_to(extents, store));
}

fn attach_inner(writer: &mut Writer, visited: VisitedInner) {
    let VisitedInner { node, dirty_before, image } = visited;
    let Some(image) = image else {
        make_dirty_again(writer, &node, dirty_before);
        return;
    };
    if node.first_dirty() == Lsn::MAX {
        node.set_image(Some(image));
    } else {
        writer.discard_pages(image.into_pages(), Lsn::ZERO);
    }
}
