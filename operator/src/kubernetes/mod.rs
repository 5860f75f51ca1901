//! What both reconcilers share: stores, conditions, Events, the platform.
