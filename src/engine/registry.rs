//! Who is connected: the table of peers, the limits, and who has been idle longest.
