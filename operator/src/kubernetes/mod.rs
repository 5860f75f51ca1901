//! What both reconcilers share, and the platform that scales Deployments.

pub mod backoff;
pub mod call;
pub mod conditions;
pub mod context;
pub mod controller;
pub mod events;
pub mod figures;
pub mod metrics;
pub mod names;
pub mod operator;
pub mod platform;
pub mod pods;
pub mod redis;
pub mod status;
pub mod stores;
pub mod time;
mod vigil;
