#!/bin/sh
# The program `fullconv` of the image. NVIDIA's container toolkit mounts the driver, and the file that tells Vulkan of it
# only if the toolkit is new enough and the host has the file. Of two files for one driver, every GPU would be there twice.
if [ -e /dev/nvidiactl ] && ! ls /etc/vulkan/icd.d /usr/share/vulkan/icd.d 2>/dev/null | grep -q nvidia; then
    export VK_ADD_DRIVER_FILES="${VK_ADD_DRIVER_FILES:+$VK_ADD_DRIVER_FILES:}/usr/local/share/fullconv/nvidia_icd.json"
fi
exec /usr/local/libexec/fullconv "$@"
