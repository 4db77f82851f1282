//! Many webhooks, and bad neighbours: what they cost those that behave.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use spaces_bridge::delivery::{DeliverySettings, OPENS_AFTER};
use spaces_bridge::domain::DeliveryState;
use spaces_bridge::store::Engine;

use super::rig::{Disk, Rig, new_webhook, settings};
use crate::support::counting_engine::CountingEngine;
use crate::support::receiver::{Receiver, Reply};
use crate::support::wait::eventually;

const GRACE: Duration = Duration::from_secs(5);
