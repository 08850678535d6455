# SPDX-License-Identifier: GPL-2.0-or-later
"""Guests for tests and the demo; tools/guest.py is what others import."""
