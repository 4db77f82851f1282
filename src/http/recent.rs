//! The last sends that were confirmed while their caller waited, so that the address in their `Location` answers for a while. They
//! need no durable record: the caller has the proof already.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use crate::domain::MessageRef;
use crate::send_log::{SendRecord, SendStatus};

/// Most records kept.
const MAX_RECORDS: usize = 10_000;

/// Most bytes of messages kept.
const MAX_BYTES: usize = 8 << 20;

/// The records, oldest first.
#[derive(Default)]
pub(super) struct RecentSends(Mutex<Records>);

#[derive(Default)]
struct Records {
    by_reference: HashMap<MessageRef, Arc<SendRecord>>,
    order: VecDeque<MessageRef>,
    bytes: usize,
}

impl RecentSends {
    pub(super) fn insert(&self, record: SendRecord) {
        let mut records = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        records.bytes += size(&record);
        records.order.push_back(record.reference.clone());
        records.by_reference.insert(record.reference.clone(), Arc::new(record));
        while records.order.len() > MAX_RECORDS || records.bytes > MAX_BYTES {
            let Some(oldest) = records.order.pop_front() else { break };
            if let Some(record) = records.by_reference.remove(&oldest) {
                records.bytes -= size(&record);
            }
        }
    }

    pub(super) fn get(&self, reference: &MessageRef) -> Option<Arc<SendRecord>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).by_reference.get(reference).cloned()
    }
}

fn size(record: &SendRecord) -> usize {
    match &record.status {
        SendStatus::Confirmed { message, .. } => message.get().len(),
        SendStatus::Queued { .. }
        | SendStatus::Sent { .. }
        | SendStatus::Unconfirmed { .. }
        | SendStatus::Failed { .. }
        | SendStatus::Cancelled => 0,
    }
}
