# SPDX-License-Identifier: Apache-2.0
"""An OCI runtime whose containers run in a virtual machine of their pod's own.

`command` is what container engines call; `pod` is the process that holds a pod's machine;
`guest/` is the C of the machine's first process. This package's imports are few on purpose: engines
start it many times a container.
"""
