//! The application behind `examples/saas`.
//!
//! Each job type of the example has a real handler here: mails land in a database exactly once per idempotency
//! key, images are scaled, reports are PDF files, customers are slow and throttle. `traffic` enqueues a
//! realistic mix, `verify` checks the effects afterwards, and `demo` runs the whole thing on one machine.

pub mod account;
pub mod analytics;
pub mod answer;
pub mod app;
pub mod args;
pub mod clock;
pub mod connect;
pub mod customer;
pub mod demo;
pub mod dice;
pub mod faults;
pub mod files;
pub mod mailer;
pub mod notices;
pub mod report;
pub mod serve;
pub mod signature;
pub mod stop;
pub mod store;
pub mod stripe;
pub mod table;
pub mod thumbnail;
pub mod traffic;
pub mod verify;
